"""What this machine can do, and whether the installation is whole."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import Any

import torch

from monai_r2unet.bundle import list_bundles
from monai_r2unet.provenance import versions

__all__ = ["examine", "format_examination"]

# Module of each optional dependency -> the extra that brings it.
OPTIONAL = {
    "matplotlib": "train",
    "tensorboard": "train",
    "pydicom": "dicom",
    "highdicom": "dicom",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
}


def examine() -> dict[str, Any]:
    """Processor, devices, versions, optional packages and bundles; ``usable`` when some bundle can segment."""
    bundles = {bundle.name: bundle.weights_state() for bundle in list_bundles()}
    return {
        "usable": "present" in bundles.values() and "damaged" not in bundles.values(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "devices": _devices(),
        "versions": versions(),
        "optional": {
            module: "present" if importlib.util.find_spec(module) else f'missing: pip install "monai-r2unet[{extra}]"'
            for module, extra in OPTIONAL.items()
        },
        "bundles": bundles,
    }


def _devices() -> list[str]:
    devices = ["cpu"]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        devices.append(f"cuda:{index} {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return devices


def format_examination(examination: dict[str, Any]) -> str:
    """The examination as lines of text."""
    lines = [
        f"system    {examination['system']}",
        f"cpu       {examination['cpu_count']} cores, torch uses {examination['cpu_threads']} threads",
        *(f"device    {device}" for device in examination["devices"]),
        *(f"version   {name} {number}" for name, number in examination["versions"].items()),
        *(f"optional  {name}: {state}" for name, state in examination["optional"].items()),
        *(f"bundle    {name}: weights {state}" for name, state in examination["bundles"].items()),
    ]
    if examination["usable"]:
        lines.append("ready to segment")
    else:
        lines.append("not ready: a bundle's weights are missing or damaged; install monai-r2unet again")
    return "\n".join(lines)
