"""The devices that can run a network."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch

from monai_r2unet.errors import InputError, first_line
from monai_r2unet.networks.devices import working_device

__all__ = ["choose_device", "list_devices", "process_number"]


def choose_device(device: str = "auto") -> torch.device:
    """The torch device with a name; ``"auto"`` chooses the first CUDA device that works, or the CPU if none does.

    Raises:
        InputError: if the name is unknown or the device does not exist.
    """
    if device == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # Under torchrun, each process of a host takes its own device.
        first = process_number("LOCAL_RANK", 0)
        for index in range(count):
            try:
                return working_device(torch.device("cuda", (first + index) % count))
            except InputError as error:
                warnings.warn(f"a GPU is left out: {error}", stacklevel=2)
        return torch.device("cpu")
    return working_device(device)


def process_number(variable: str, default: int) -> int:
    """The number in an environment variable of torchrun: RANK, LOCAL_RANK or WORLD_SIZE.

    Raises:
        InputError: it is no number.
    """
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise InputError(f"the environment variable {variable} is {text!r}, expected a number: remove it")
    return int(text)


def list_devices() -> list[dict[str, Any]]:
    """The devices of this machine, the CPU last; for a GPU with its free and total memory in bytes.

    A GPU that does not respond (full, broken or in exclusive use) has no memory, and its name says why.
    """
    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        device: dict[str, Any] = {"id": f"cuda:{index}", "name": "GPU"}
        try:
            device["name"] = torch.cuda.get_device_name(index)
            free, total = torch.cuda.mem_get_info(index)
            device |= {"free_bytes": free, "total_bytes": total}
        except (RuntimeError, AssertionError) as error:
            device["name"] += f", unusable: {first_line(error)}"
        found.append(device)
    return [*found, {"id": "cpu", "name": "CPU"}]
