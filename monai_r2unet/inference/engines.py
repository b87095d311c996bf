"""Engines that run a network instead of torch: OpenVINO, ONNX Runtime, and torch's own TorchScript.

An engine is a module that replaces the network: it is built from the network and its weights, and maps the same images
to the same logits, within rounding. `ENGINES` lists them all. OpenVINO is faster on CPUs after compilation; the other
two run the files of `monai_r2unet.inference.export`, as other programs will.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_r2unet.errors import InputError, first_line
from monai_r2unet.inference.export import onnx_session, run_onnx, to_onnx, to_torchscript
from monai_r2unet.inference.inferers import is_out_of_memory
from monai_r2unet.inference.precision import fastest_type
from monai_r2unet.inference.startup import hidden_modules

__all__ = ["ENGINES", "Engine", "ONNXRuntimeNetwork", "OpenVINONetwork", "check_engine", "with_engine"]

MOST_SIZES = 4  # sizes that stay compiled; each holds a copy of the weights


class OpenVINONetwork(nn.Module):
    """A network run by OpenVINO on the CPU.

    It is compiled for each image size, and the last few sizes stay compiled. For the lung bundle this takes about two
    seconds, mostly on one thread; after that a slice takes about 0.6 of torch's time. With one thread it pays off from
    about 40 slices of one size, with more threads later, and always in a process that stays, such as the worker. It
    does not pay off for a single picture. `python -m benchmarks.speed cpu` measures both.

    Images run one by one, which is fastest and makes the result independent of the batch. The number of threads is that
    of torch when a size is compiled.

    Args:
        network: The network with its final weights; set to evaluation mode.
        float32: Compute in float32; otherwise in the CPU's `fastest_type`, as torch does.

    Raises:
        InputError: if OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module, *, float32: bool = False) -> None:
        super().__init__()
        self._openvino = _import_openvino()
        self.network = network.eval()
        self.float32 = float32
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()  # most recently used last
        self._running = threading.Lock()  # a compiled network takes one image at a time

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, H, W[, D]) on the CPU to logits (N, K, H, W[, D]), float32.

        Raises:
            InputError: if OpenVINO cannot run the network.
        """
        with self._running:
            compiled = self._compile(images[:1])
            logits = [compiled(image.float().contiguous().numpy())[0] for image in images.detach().split(1)]
        return torch.from_numpy(np.concatenate(logits))

    @torch.no_grad()
    def _compile(self, image: torch.Tensor) -> Any:
        """The network compiled for images of the size of ``image`` (1, C, H, W[, D])."""
        size = tuple(image.shape)
        if size not in self._compiled:
            try:
                self._compiled[size] = self._compile_anew(image.float().contiguous())
            except Exception as error:  # any kind, from torch or OpenVINO
                if is_out_of_memory(error):
                    raise
                raise InputError(
                    f"OpenVINO cannot run this {type(self.network).__name__} on images of {size[1:]} "
                    f"({first_line(error)}): use the engine torch"
                ) from error
            if len(self._compiled) > MOST_SIZES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(size)
        return self._compiled[size]

    def _compile_anew(self, image: torch.Tensor) -> Any:
        # Traced and not exported, which takes three times as long; for one size, as a trace is valid for no other if a
        # network looks at the size. Frozen, the graph has a third of the nodes, and OpenVINO reads it as much faster.
        # In float32: the caller may have switched on a lower precision, which OpenVINO applies itself.
        with warnings.catch_warnings(), torch.autocast("cpu", enabled=False):
            warnings.simplefilter("ignore")  # about branches that depend on the size, and the deprecation of tracing
            graph = torch.jit.freeze(torch.jit.trace(self.network, image, check_trace=False))
            model = self._openvino.convert_model(graph, input=list(image.shape))
        lower = not self.float32 and fastest_type(torch.device("cpu")) == torch.bfloat16
        return self._openvino.Core().compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "bf16" if lower else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                # Several processes would bind their threads to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )


class ONNXRuntimeNetwork(nn.Module):
    """A network run by ONNX Runtime on the CPU, in float32.

    It is exported to ONNX with the first image, which takes about ten seconds for the lung bundle, and then runs images
    of any size. Images run one by one; the number of threads is that of torch at the first image.

    Args:
        network: The network with its final weights; set to evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()
        self._session: Any = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, H, W[, D]) on the CPU to logits (N, K, H, W[, D]), float32.

        Raises:
            InputError: if the extra ``export`` is not installed, or ONNX Runtime cannot run the network.
        """
        if self._session is None:
            # In float32, even if the caller has switched on a lower precision.
            with torch.autocast("cpu", enabled=False):
                self._session = onnx_session(to_onnx(self.network, images.shape[1], images.ndim - 2))
        try:
            return run_onnx(self._session, images.detach())
        except MemoryError:
            raise
        except Exception as error:  # any kind, from torch or ONNX Runtime
            raise InputError(
                f"ONNX Runtime cannot run this {type(self.network).__name__} on images of {tuple(images.shape[1:])} "
                f"({first_line(error)}): use the engine torch"
            ) from error


@dataclass(frozen=True)
class Engine:
    """The constructor and the abilities of an engine.

    Args:
        make: Function that builds it from a network and a switch for float32.
        cpu_only: True if it runs only on the CPU.
        float32_only: True if it never computes in the processor's `fastest_type`.
    """

    make: Callable[[nn.Module, bool], nn.Module]
    cpu_only: bool = True
    float32_only: bool = False


ENGINES = {
    "torch": Engine(lambda network, float32: network, cpu_only=False),
    "openvino": Engine(lambda network, float32: OpenVINONetwork(network, float32=float32)),
    "onnxruntime": Engine(lambda network, float32: ONNXRuntimeNetwork(network), float32_only=True),
    "torchscript": Engine(lambda network, float32: to_torchscript(network), cpu_only=False),
}


def check_engine(engine: str, device: str) -> str:
    """The device for an engine: the requested one or, for ``"auto"``, one that the engine supports.

    Raises:
        InputError: if the engine is unknown, or does not run on the device.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; available: {', '.join(ENGINES)}")
    if not ENGINES[engine].cpu_only:
        return device
    if device not in ("auto", "cpu"):
        raise InputError(
            f"the engine {engine!r} runs on the CPU only, got device {device!r}: use the device 'cpu', or the engine "
            "'torch'"
        )
    return "cpu"


def with_engine(engine: str, network: nn.Module, *, float32: bool) -> nn.Module:
    """The network, run by an engine; ``network`` itself for torch.

    Args:
        engine: One of `ENGINES`.
        network: The network with its weights, on the CPU if the engine runs only there.
        float32: Always compute in float32.

    Raises:
        InputError: if the engine is not installed or does not support the network.
    """
    return ENGINES[engine].make(network, float32)


def _import_openvino() -> Any:
    """Import ``openvino`` without its telemetry, which is on by default from the import on.

    Raises:
        InputError: if it is not installed or does not work.
    """
    # OpenVINO supports running without its telemetry package.
    reporting = () if "openvino" in sys.modules else ("openvino_telemetry",)
    try:
        with hidden_modules(*reporting):
            return importlib.import_module("openvino")
    except ImportError as error:
        raise InputError(
            f"the engine 'openvino' is not installed ({first_line(error)}): pip install \"monai-r2unet[openvino]\""
        ) from error
