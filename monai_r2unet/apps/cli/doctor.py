"""The verb ``doctor``: a check of this machine and of the installed bundles."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
from typing import Any

from monai_r2unet.apps.cli.terminal import EXIT_DONE, EXIT_FAILED
from monai_r2unet.bundle import list_bundles
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "examine", "format_examination", "run"]

# Module of each optional dependency -> the extra that installs it.
OPTIONAL = {
    "matplotlib": "train",
    "tensorboard": "train",
    "pydicom": "dicom",
    "highdicom": "dicom",
    "pynetdicom": "node",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
}


HELP = "check this machine and the installed bundles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the examination of this machine; exit code 1 if it cannot segment."""
    examination = examine()
    print(json.dumps(examination, indent=2) if options.json else format_examination(examination))
    return EXIT_DONE if examination["usable"] else EXIT_FAILED


def examine() -> dict[str, Any]:
    """Processor, devices, versions, optional packages and bundles; ``usable`` when some bundle can segment."""
    with leaving_on_interrupt():
        import torch

        from monai_r2unet.inference.devices import list_devices
        from monai_r2unet.provenance import versions

    bundles = {bundle.name: bundle.weights_state() for bundle in list_bundles()}
    return {
        "usable": "present" in bundles.values() and "damaged" not in bundles.values(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "devices": [_described(device) for device in sorted(list_devices(), key=lambda device: device["id"] != "cpu")],
        "versions": versions(),
        "optional": {
            module: "present" if importlib.util.find_spec(module) else f'missing: pip install "monai-r2unet[{extra}]"'
            for module, extra in OPTIONAL.items()
        },
        "bundles": bundles,
    }


def _described(device: dict[str, Any]) -> str:
    if device["id"] == "cpu":
        return "cpu"
    described = f"{device['id']} {device['name']}"
    if "free_bytes" in device:
        described += f", {device['free_bytes'] / 2**30:.1f} of {device['total_bytes'] / 2**30:.1f} GiB free"
    return described


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
