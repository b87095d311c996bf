"""The right and the left lung of a mask that does not distinguish them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from monai_r2unet.images.components import as_stored, parts_of, pixels_in, steady, upright

__all__ = ["LEFT", "RIGHT", "sides_of", "split_sides"]

RIGHT, LEFT = 1, 2
BODY_ABOVE = -500  # HU
ACROSS = 25.0  # mm that a part must reach beyond the midline, on either side, to be both lungs at once
STEP = 1.0  # mm of erosion between attempts to separate them; few attempts, even if pixels are metres wide
MOST_STEPS = 100
PIXEL = 2.0  # mm, about the pixels in which they are separated: smaller ones only take longer
LEAST = 0.05  # share of a joined part that each lung has


def split_sides(ct: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Label the right and the left lung.

    Each connected part of the mask is assigned to the side of the body's midline where its centre lies. Lungs that
    touch, as at the anterior junction, are separated by erosion, and what was eroded is assigned to the nearer of the
    two. Volumes of widely spaced slices, and single slices, work as well.

    Args:
        ct: CT in HU, 3D, in any orientation.
        mask: Lung mask on the grid of ``ct``; all that is not 0 is lung.

    Returns:
        uint8 on the same grid: 0 background, 1 right lung, 2 left lung.
    """
    ct, turned = upright(ct), upright(mask)
    hu, lungs = (sitk.GetArrayViewFromImage(image) for image in (ct, turned))
    return as_stored(sides_of(hu, lungs, turned.GetSpacing()[::-1]), turned, mask)


def sides_of(hu: npt.NDArray[Any], lungs: npt.NDArray[Any], spacing: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Label the right and the left lung of arrays (Z, Y, X) in LPS; see `split_sides`.

    Args:
        hu: CT in HU.
        lungs: Mask; all that is not 0 is lung.
        spacing: mm, along (Z, Y, X).
    """
    labels = np.zeros(lungs.shape, np.uint8)
    middle, size = _midline(hu), np.array(steady(spacing))
    for box, own in parts_of(lungs):
        labels[box][own] = _sides_of(own, size, middle - box[2].start)[own]
    return labels


def _midline(hu: npt.NDArray[Any]) -> float:
    """Column of the body's centre, which arms and table hardly affect."""
    columns = sum(np.count_nonzero(plane > BODY_ABOVE, axis=0) for plane in hu)  # not all at once, for memory
    if not columns.any():
        return (int(hu.shape[2]) - 1) / 2
    return float(np.average(np.arange(hu.shape[2]), weights=columns))


def _sides_of(part: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64], middle: float) -> npt.NDArray[np.uint8]:
    """The side of each voxel of a part (Z, Y, X) whose box the array fills."""
    whole = np.full(part.shape, _side(part, middle), np.uint8)
    columns = np.flatnonzero(part.any(axis=(0, 1)))
    reach = min(middle - columns[0], columns[-1] - middle) * spacing[2]
    if reach < ACROSS:
        return whole
    factor = pixels_in(PIXEL, spacing[1:].tolist(), part.shape[1:])
    coarse = _coarse(part, factor)
    spacing, middle = spacing * (1, factor, factor), middle / factor
    depth = _distance(coarse, spacing)
    deepest = float(depth.max())
    for eroded in np.arange(STEP, deepest, max(STEP, deepest / MOST_STEPS)):
        numbered = sitk.ConnectedComponent(sitk.GetImageFromArray((depth > eroded).astype(np.uint8)))
        cores = sitk.GetArrayFromImage(numbered)
        sizes = np.bincount(cores.ravel())[1:]
        large = [index + 1 for index in np.flatnonzero(sizes >= LEAST * np.count_nonzero(coarse))]
        sides = {core: _side(cores == core, middle) for core in large}
        if len(set(sides.values())) == 2:
            right, left = (
                -_distance(np.isin(cores, [core for core in large if sides[core] == side]), spacing)
                for side in (RIGHT, LEFT)
            )
            nearer = np.where(right <= left, RIGHT, LEFT).astype(np.uint8)
            _, height, width = part.shape
            return nearer.repeat(factor, axis=1).repeat(factor, axis=2)[:, :height, :width]
    return whole


def _coarse(part: npt.NDArray[np.bool_], factor: int) -> npt.NDArray[np.bool_]:
    """The part in pixels of `factor` x `factor`, each of which has a voxel of it."""
    depth, height, width = part.shape
    padded = np.pad(part, ((0, 0), (0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(depth, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    return np.asarray(blocks.any(axis=(2, 4)))


def _side(part: npt.NDArray[np.bool_], middle: float) -> int:
    columns = np.count_nonzero(part, axis=(0, 1))
    return RIGHT if np.average(np.arange(len(columns)), weights=columns) < middle else LEFT


def _distance(inside: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Distance in mm to the nearest voxel outside, or for voxels outside, negative, to the nearest inside.

    Beside the array is outside; above and below it, the body continues.
    """
    beside = np.pad(inside, ((0, 0), (1, 1), (1, 1)))
    padded = sitk.GetImageFromArray(np.pad(beside, ((1, 1), (0, 0), (0, 0)), mode="edge").astype(np.uint8))
    padded.SetSpacing(spacing[::-1].tolist())
    distance = sitk.SignedMaurerDistanceMap(padded, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    found: npt.NDArray[np.float32] = sitk.GetArrayFromImage(distance)[1:-1, 1:-1, 1:-1]
    return found
