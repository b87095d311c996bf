"""Passes of a network over a batch: filled up, patch by patch, or averaged over mirror images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

__all__ = ["filled", "in_windows", "mirrored"]


def filled(network: Callable[..., torch.Tensor], count: int) -> Callable[..., torch.Tensor]:
    """The network for batches that are filled with zeros up to ``count`` images, without the results for the zeros."""

    def run(images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        missing = count - len(images)
        if missing <= 0:
            return network(images, *args, **kwargs)
        filled = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        return network(filled, *args, **kwargs)[: len(images)]

    return run


def in_windows(
    window: Inferer, network: Callable[..., torch.Tensor], images: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """The network's logits for ``images`` (N, C, X, Y), patch by patch as ``window`` places them."""
    logits: torch.Tensor = window(images, network, *args, **kwargs)
    return logits


def mirrored(network: Callable[..., torch.Tensor], images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Mean of the network's logits for ``images`` (N, C, X, Y) and for their three mirror images, mirrored back."""
    logits = network(images, *args, **kwargs)
    for axes in ((-2,), (-1,), (-2, -1)):
        logits = logits + network(images.flip(axes), *args, **kwargs).flip(axes)
    return logits / 4
