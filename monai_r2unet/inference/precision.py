"""The precision in which a processor runs networks fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from monai_r2unet._borrowed import cpu_has_bfloat16

__all__ = ["fastest_type", "run_exact", "run_fast"]


def fastest_type(device: torch.device) -> torch.dtype:
    """The floating point type in which ``device`` runs networks fastest.

    On the CPU that is bfloat16 if the processor supports it (AVX512-BF16 or AMX; emulated, it is slower), on CUDA
    bfloat16 or, before Ampere, float16; else float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def run_fast(network: Callable[..., torch.Tensor], images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The network's output for ``images`` (N, C, H, W) as float32, computed in the `fastest_type` of their device.

    The images are channels-last, the memory layout in which convolutions are fastest.
    """
    dtype = fastest_type(images.device)
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        return network(_channels_last(images), *args, **kwargs).float()


def run_exact(network: Callable[..., torch.Tensor], images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """What ``network`` makes of ``images`` (N, C, H, W) in float32: without autocast around it, and without TF32."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32  # not by operator, which torch's export refuses
    cudnn.allow_tf32 = products.allow_tf32 = False
    try:
        with torch.autocast(images.device.type, enabled=False):
            return network(_channels_last(images.float()), *args, **kwargs).float()
    finally:
        cudnn.allow_tf32, products.allow_tf32 = before


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """Not by `contiguous`, which leaves one channel as it is: the first layers, whose maps are the largest, would be
    slower.
    """
    return images.to(memory_format=torch.channels_last)
