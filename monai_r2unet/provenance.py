"""What a result depends on: versions and the processor."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from monai_r2unet import __version__

__all__ = ["processor_name", "versions"]


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    found |= {"monai-r2unet": __version__, **{name: version(name) for name in ("monai", "numpy", "SimpleITK")}}
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    if "openvino" in sys.modules:  # where it is the engine
        found["openvino"] = version("openvino")
    if sys.modules.get("onnxruntime") is not None:  # several packages provide it
        found["onnxruntime"] = sys.modules["onnxruntime"].__version__
    return found


def processor_name() -> str:
    """The processor's name, if the system reports one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
