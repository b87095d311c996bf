"""Connected parts of a label map, found by SimpleITK: islands go, and each part gets one label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = ["bounding_box", "remove_islands"]

Labels = npt.NDArray[np.uint8]
NEIGHBOURS = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])


def remove_islands(labels: Labels, least_share: float) -> Labels:
    """Remove the small connected parts of a label map and keep all large ones, however many there are.

    Voxels that share a face are connected.

    A small part of one label that touches a large part of another gets that one's label: a patch of a lung that was
    given to the other side goes back, and no voxel of the lung is lost. A small part that touches none is an island.

    Args:
        labels: (X, Y, Z), the axes in any order, uint8, 0 background.
        least_share: Least size of a part that is kept, as a share of all foreground voxels, from 0 to 1. The largest
            part is always kept.

    Returns:
        A new label map of the same shape.
    """
    least = least_share * np.count_nonzero(labels)
    parts = [part for value in range(1, int(labels.max(initial=0)) + 1) for part in _parts(labels, value, least)]
    cleaned: Labels = labels.copy()
    if not parts:
        return cleaned
    largest = max(size for size, _ in parts)
    small = [voxels for size, voxels in parts if size < min(least, largest)]
    for voxels in small:
        cleaned[tuple(voxels.T)] = 0
    while small:
        left = [voxels for voxels in small if not _joins_neighbour(cleaned, voxels)]
        if len(left) == len(small):
            break
        small = left  # one that touches small parts only may touch a larger one through them
    return cleaned


def bounding_box(mask: npt.NDArray[np.generic]) -> tuple[slice, ...] | None:
    """Find the smallest box around the foreground; ``None`` where there is none."""
    box = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not occupied.size:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def _parts(labels: Labels, value: int, least: float) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Size of each part of one label, and the indices (N, 3) of its voxels if they are fewer than ``least``."""
    own = labels == value
    box = bounding_box(own)
    if box is None:
        return []
    own = np.ascontiguousarray(own[box])
    numbered = sitk.ConnectedComponent(sitk.GetImageFromArray(own.view(np.uint8)))  # from 1
    voxels = np.flatnonzero(own)
    numbers = sitk.GetArrayViewFromImage(numbered).ravel()[voxels]
    sizes = np.bincount(numbers)
    few = sizes[numbers] < least
    voxels, numbers = voxels[few], numbers[few]
    order = np.argsort(numbers, kind="stable")
    indices = np.stack(np.unravel_index(voxels[order], own.shape), -1) + [axis.start for axis in box]
    ends = np.cumsum(np.bincount(numbers, minlength=len(sizes)))
    return [(int(sizes[part]), indices[ends[part - 1] : ends[part]]) for part in range(1, len(sizes))]


def _joins_neighbour(labels: Labels, voxels: npt.NDArray[np.intp]) -> bool:
    """Give a part the label that it touches most; whether it touches any."""
    around = (voxels[:, None] + NEIGHBOURS).reshape(-1, 3)
    inside = ((around >= 0) & (around < labels.shape)).all(axis=1)
    touched = labels[tuple(around[inside].T)]
    touched = touched[touched > 0]
    if not touched.size:
        return False
    labels[tuple(voxels.T)] = np.bincount(touched).argmax()
    return True
