"""Transforms that MONAI lacks: fitting of slices into the square that the network sees."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch.nn import functional

__all__ = [
    "FitInPlaned",
    "fit_in_plane",
    "in_plane_size",
]


def in_plane_size(size: int, shape: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[int, int]:
    """Pixels (X, Y) of an image of ``shape`` and ``spacing`` (mm) once its longer side fills ``size`` square pixels.

    The aspect ratio is that of the anatomy, not of the array: 256 x 80 pixels of 1 x 3 mm become nearly square.
    """
    extent = [n * abs(s) for n, s in zip(shape, spacing, strict=True)]
    if not all(np.isfinite(extent)) or min(extent) <= 0:
        extent = [float(n) for n in shape]
    # Halves, and what float32 can make of them, go up: the last bits of a spacing must not decide.
    x, y = (max(1, int(size * side / max(extent) + 0.501)) for side in extent)
    return x, y


def fit_in_plane(slices: torch.Tensor, size: int, fitted: tuple[int, int], mode: str) -> torch.Tensor:
    """Resize ``slices`` (N, C, X, Y) to ``fitted`` and pad with zeros, on the far side, to (N, C, size, size).

    Args:
        slices: floating point images or masks.
        size: side of the square result in pixels.
        fitted: from :func:`in_plane_size`.
        mode: ``"image"``: averages where pixels become fewer, interpolates where they become more; ``"mask"``: nearest.
    """
    if slices.shape[-2:] != fitted:
        if mode == "mask":
            slices = functional.interpolate(slices, fitted, mode="nearest-exact")
        elif fitted[0] <= slices.shape[-2] and fitted[1] <= slices.shape[-1]:
            slices = functional.interpolate(slices, fitted, mode="area")
        else:
            slices = functional.interpolate(slices, fitted, mode="bilinear", antialias=True)
    return functional.pad(slices, (0, size - fitted[1], 0, size - fitted[0]))


class FitInPlaned(MapTransform):
    """Fit volumes (C, X, Y, Z) in their first two axes, or pictures (C, X, Y), into ``size`` x ``size``.

    The same fitting as that of :class:`~monai_r2unet.inferers.SliceBySliceInferer`, so that a network sees in training
    what it will see in use. Not invertible: for training and validation of slices, not for inference.

    Args:
        keys: of the images and masks.
        size: side of the square slices in pixels.
        mode: ``"image"`` or ``"mask"``, one for each key.
    """

    def __init__(self, keys: KeysCollection, size: int, mode: list[str]) -> None:
        super().__init__(keys)
        self.size = size
        self.mode = mode

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each of ``keys`` by what was fitted, float32, without meta data."""
        fitted_data = dict(data)
        for key, mode in zip(self.keys, self.mode, strict=True):
            volume = data[key]
            spacing = tuple(float(s) for s in volume.pixdim[:2]) if isinstance(volume, MetaTensor) else (1.0, 1.0)
            plain = volume.as_tensor() if isinstance(volume, MetaTensor) else torch.as_tensor(volume)
            slices = plain.float()[None] if plain.ndim == 3 else plain.float().permute(3, 0, 1, 2)
            fitted = in_plane_size(self.size, (slices.shape[-2], slices.shape[-1]), (spacing[0], spacing[1]))
            slices = fit_in_plane(slices, self.size, fitted, mode)
            fitted_data[key] = slices[0] if plain.ndim == 3 else slices.permute(1, 2, 3, 0).contiguous()
        return fitted_data
