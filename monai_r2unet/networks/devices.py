"""Torch devices by name: whether they work, and whether an error means that their memory is full."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from monai_r2unet.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["copy_on_cpu", "is_out_of_memory", "working_device"]

# What torch, cuDNN, cuBLAS and ONNX Runtime say of full memory, in errors that are a plain RuntimeError.
FULL = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "failed to allocate memory",
    "bad allocation",
    "cudnn_status_alloc_failed",
    "host_allocation_failed",
    "cublas_status_alloc_failed",
    "unable to find an engine",  # cuDNN, where no algorithm's workspace fits
)


def working_device(device: str | torch.device) -> torch.device:
    """The torch device of a name, once it has computed something.

    Raises:
        InputError: the name is unknown, or there is no such device, or it does not work.
    """
    import torch

    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).add(1).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"device {str(device)!r} cannot be used here ({first_line(error)}); try 'auto' or 'cpu'"
        ) from error
    return chosen


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is what torch, its libraries, numpy or Python raise when memory is full, on a GPU or not."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in FULL)


def copy_on_cpu(network: nn.Module) -> nn.Module:
    """A copy of a network on the CPU, without a second one of its tensors on their device, which may be full."""
    from torch import nn

    def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
        values = tensor.detach().cpu().clone()
        return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values

    return copy.deepcopy(
        network, {id(tensor): on_cpu(tensor) for tensor in (*network.parameters(), *network.buffers())}
    )
