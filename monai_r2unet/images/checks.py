"""Checks on what a file of any format says of its voxels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import orthonormal

__all__ = ["DEFLATE_LIMIT", "by", "check_length", "check_shape", "rigid", "warn", "warn_of_thickness"]

DEFLATE_LIMIT = 1040  # zlib cannot compress better than this
SHEAR = 0.1  # fraction of a voxel: largest displacement by orthonormal axes


def check_shape(path: Path, shape: Sequence[int]) -> None:
    """Refuse axes without voxels, and more than one volume."""
    shown = " x ".join(map(str, shape))
    if 0 in shape:
        raise InputError(f"{path} has an axis of size zero ({shown}), expected voxels: export the image again")
    if len(shape) < 2 or math.prod(shape[3:]) > 1:
        raise InputError(f"{path} has {len(shape)} axes ({shown}), expected one 3D volume: save each volume on its own")


def check_length(path: Path, available: int, expected: int, exactly: bool = False) -> None:
    """Refuse fewer bytes of pixels than expected, or also more if they must be exactly as many."""
    if exactly and available > expected:
        raise InputError(
            f"{path} has a damaged header ({available} bytes of pixels, but voxels for {expected}): copy it again from "
            "its source"
        )
    if available < expected:
        raise InputError(
            f"{path} is truncated or its header is damaged (at most {available} bytes of pixels, expected {expected}): "
            "copy it again from its source"
        )


def warn_of_thickness(path: Path, image: sitk.Image) -> None:
    """Warn that a slice is taken as 1 mm thick. Colours have no thickness."""
    if image.GetNumberOfComponentsPerPixel() == 1:
        warn(f"{path} has no slice thickness, so millilitres are computed for 1 mm")


def warn(sentence: str) -> None:
    """Warn the user, who is shown the sentence alone."""
    warnings.warn(sentence, UserWarning, stacklevel=2)


def by(sizes: Sequence[float] | np.ndarray) -> str:
    """Sizes as text: 0.7 x 0.7 x 3."""
    return " x ".join(f"{size:g}" for size in sizes)


def rigid(path: Path, matrix: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Split index-to-mm axes into the spacing and the nearest orthonormal direction, of either handedness."""
    spacing = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InputError(f"{path} has a voxel spacing of {spacing.tolist()} mm, expected positive numbers: correct it")
    direction = orthonormal(matrix / spacing)
    moved = np.abs((direction * spacing - matrix) * np.asarray(size)).sum(axis=1).max()
    if moved > SHEAR * spacing.min():
        raise InputError(
            f"{path} has sheared axes (making them orthogonal would move voxels by up to {moved:.2g} mm), expected a "
            "rectangular grid: resample it to one first"
        )
    return spacing, direction
