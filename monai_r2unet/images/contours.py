"""Contours of a slice's mask, from which exactly this mask can be drawn again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["closed_contours"]

Points = npt.NDArray[np.float64]


def closed_contours(mask: npt.NDArray[np.bool_]) -> list[Points]:
    """Trace the closed contours of a slice's mask.

    A contour runs halfway between the centres of foreground and background pixels (marching squares), so that the
    pixels whose centres it encloses are those of the mask, exactly. A hole is joined to the contour around it by a
    channel without width (DICOM PS3.3 C.8.8.6.3, "keyhole"), because many readers know no other form.

    Args:
        mask: Boolean, (rows, columns).

    Returns:
        For each part of the mask, corners (N, 2): column and row in pixels, whole numbers at pixel centres; the first
        corner is not repeated.
    """
    from contourpy import FillType, contour_generator

    padded = np.pad(mask.astype(np.float64), 1)  # the mask may reach the border
    generator = contour_generator(z=padded, name="serial", fill_type=FillType.OuterOffset)
    contours = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        outer, *holes = (_corners(points[start : end - 1]) for start, end in pairwise(offsets))
        contours.append(_keyhole(outer, holes) - 1)
    return contours


def _corners(closed: Points) -> Points:
    """The points of a closed line at which it turns."""
    before, after = closed - np.roll(closed, 1, axis=0), np.roll(closed, -1, axis=0) - closed
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: Points = closed[turns]
    return corners


def _keyhole(outer: Points, holes: list[Points]) -> Points:
    """One closed line around a region with holes: it enters each of them by a channel, and returns by the same."""
    while holes:
        distances = [((outer[:, None] - hole[None]) ** 2).sum(-1) for hole in holes]
        nearest = int(np.argmin([each.min() for each in distances]))
        leave, enter = np.unravel_index(distances[nearest].argmin(), distances[nearest].shape)
        around = np.roll(holes.pop(nearest), -enter, axis=0)
        outer = np.concatenate([outer[: leave + 1], around, around[:1], outer[leave:]])
    return outer
