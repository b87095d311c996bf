"""The devices that can run a network."""

from __future__ import annotations

import os
from typing import Any

import torch

from monai_r2unet.errors import InputError

__all__ = ["choose_device", "list_devices"]


def choose_device(device: str = "auto") -> torch.device:
    """The torch device with a name; ``"auto"`` chooses the first CUDA device, or the CPU if there is none.

    Raises:
        InputError: if the name is unknown or the device does not exist.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Under torchrun, each process of a host takes its own device.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # the device exists and can compute
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({reason}); try 'auto' or 'cpu'") from error
    return chosen


def list_devices() -> list[dict[str, Any]]:
    """The devices of this machine, the CPU last; for a GPU with its free and total memory in bytes."""
    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append({"id": f"cuda:{index}", "name": name, "free_bytes": free, "total_bytes": total})
    return [*found, {"id": "cpu", "name": "CPU"}]
