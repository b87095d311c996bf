"""What runs a network in place of torch: OpenVINO, ONNX Runtime, or torch's own TorchScript.

An engine is a module that takes the network's place: it is made from the network, with its weights, and maps the same
images to the same logits, within rounding. `ENGINES` names them all. OpenVINO is faster on CPUs once it has been built;
the other two run what `monai_r2unet.inference.export` writes, as other programs will.
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

MOST_SIZES = 4  # that stay compiled; each holds a copy of the weights


class OpenVINONetwork(nn.Module):
    """A network as OpenVINO runs it, on the CPU.

    It is compiled for every size of image that it meets, and the last few stay compiled. For the lung bundle that takes
    some two seconds, most of them on one thread, after which a slice takes some 0.6 of torch's time: with one thread it
    pays from some 40 slices of one size on, with more threads later, and in a process that stays, such as the worker,
    once for all; for a single picture it does not. `python -m benchmarks.speed cpu` measures both.

    Images run one by one, which is fastest and makes the result independent of the batch. As many threads work as
    torch uses when a size is first met.

    Args:
        network: with its weights, which are not to change any more; put into evaluation mode.
        float32: compute in float32; otherwise in the CPU's `fastest_type`, as torch does.

    Raises:
        InputError: if OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module, *, float32: bool = False) -> None:
        super().__init__()
        self._openvino = _import_openvino()
        self.network = network.eval()
        self.float32 = float32
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()  # the one last used is last
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
            except Exception as error:  # of any kind, from torch or OpenVINO
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
        # Traced and not exported, which takes three times as long; for one size, as a trace holds for no other where a
        # network looks at the size. Frozen, the graph has a third of the nodes, and OpenVINO reads it as much faster.
        # Not in the lower precision that the caller may have switched on, which OpenVINO does by itself.
        with warnings.catch_warnings(), torch.autocast("cpu", enabled=False):
            warnings.simplefilter("ignore")  # of branches that depend on the size, and that tracing goes out of fashion
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
    """A network as ONNX Runtime runs it, on the CPU, in float32.

    It is exported to ONNX when it meets its first image, which takes some ten seconds for the lung bundle, and then
    runs images of every size. Images run one by one, with as many threads as torch uses when the first is met.

    Args:
        network: with its weights, which are not to change any more; put into evaluation mode.
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
            # Not in the lower precision that the caller may have switched on.
            with torch.autocast("cpu", enabled=False):
                self._session = onnx_session(to_onnx(self.network, images.shape[1], images.ndim - 2))
        try:
            return run_onnx(self._session, images.detach())
        except MemoryError:
            raise
        except Exception as error:  # of any kind
            raise InputError(
                f"ONNX Runtime cannot run this {type(self.network).__name__} on images of {tuple(images.shape[1:])} "
                f"({first_line(error)}): use the engine torch"
            ) from error


@dataclass(frozen=True)
class Engine:
    """How an engine is made, and what it can do.

    Args:
        make: from a network and whether it is to compute in float32.
        cpu_only: it runs on the CPU alone.
        float32_only: it never computes in the processor's `fastest_type`.
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
    """The device on which an engine works, for the one that was asked for: where it has the choice, one it can use.

    Raises:
        InputError: if there is no such engine, or it does not run on the device.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; there are: {', '.join(ENGINES)}")
    if not ENGINES[engine].cpu_only:
        return device
    if device not in ("auto", "cpu"):
        raise InputError(
            f"the engine {engine!r} runs on the CPU only, got device {device!r}: use the device 'cpu', or the engine "
            "'torch'"
        )
    return "cpu"


def with_engine(engine: str, network: nn.Module, *, float32: bool) -> nn.Module:
    """The network as an engine runs it; ``network`` itself for torch.

    Args:
        engine: one of `ENGINES`.
        network: with its weights, on the CPU for engines that run there alone.
        float32: compute in float32, whatever is fastest.

    Raises:
        InputError: if the engine is not installed or does not take the network.
    """
    return ENGINES[engine].make(network, float32)


def _import_openvino() -> Any:
    """The package ``openvino``, kept from reporting to its makers, which it does from its import on unless told not to.

    Raises:
        InputError: if it is not installed or does not work.
    """
    # Without its package for reporting OpenVINO works as well, which it is made for.
    reporting = () if "openvino" in sys.modules else ("openvino_telemetry",)
    try:
        with hidden_modules(*reporting):
            return importlib.import_module("openvino")
    except ImportError as error:
        raise InputError(
            f"the engine 'openvino' is not installed ({first_line(error)}): pip install \"monai-r2unet[openvino]\""
        ) from error
