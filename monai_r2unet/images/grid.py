"""The grid of an image: its axes in mm, and whether two images share it."""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk

__all__ = ["axes_in_mm", "orthonormal", "same_grid", "unlikely_size"]

SAME_GRID = 1e-3  # of a voxel
LEAST, GREATEST = 0.05, 20.0  # mm: pixels of patients, from micro-CT of a specimen to the coarsest emission tomography
FARTHEST = 500.0  # mm between slices, which may be a selection from a scan


def orthonormal(direction: np.ndarray) -> np.ndarray:
    """Return the perpendicular unit axes nearest to the given columns, with the same handedness."""
    left, _, right = np.linalg.svd(direction)
    nearest: np.ndarray = left @ right
    return nearest


def axes_in_mm(image: sitk.Image) -> np.ndarray:
    """Return an image's axes as columns, in mm per voxel (LPS)."""
    dimension = image.GetDimension()
    matrix: np.ndarray = np.reshape(image.GetDirection(), (dimension, dimension)) * np.asarray(image.GetSpacing())
    return matrix


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two images have the same size and, to 1e-3 of a voxel at every corner, the same geometry."""
    if a.GetSize() != b.GetSize():
        return False
    corners = np.array(list(itertools.product(*((0, n) for n in a.GetSize()))))
    shift = np.subtract(a.GetOrigin(), b.GetOrigin()) + corners @ (axes_in_mm(a) - axes_in_mm(b)).T
    return bool(np.abs(shift).max() <= SAME_GRID * min(a.GetSpacing()))


def unlikely_size(image: sitk.Image) -> str | None:
    """Why the voxel size of a volume cannot be that of a patient, such as one in metres; None of a likely one."""
    if image.GetDimension() != 3:
        return None
    smallest, second, largest = sorted(image.GetSpacing())
    if smallest >= LEAST and second <= GREATEST and largest <= FARTHEST:
        return None
    shown = " x ".join(f"{size:.3g}" for size in image.GetSpacing())
    return f"the voxels are {shown} mm large, which no scan of a patient has: check their size and its unit"
