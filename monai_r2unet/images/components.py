"""Remove islands and what lies beside the body from label maps; SimpleITK finds the connected parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = [
    "as_stored",
    "beside_body",
    "bounding_box",
    "parts_of",
    "pixels_in",
    "remove_beside_body",
    "remove_islands",
    "steady",
    "upright",
]

Labels = npt.NDArray[np.uint8]
TISSUE_ABOVE = -300  # HU
PIXEL = 3.0  # mm, about the pixels in which the body is looked for
NEIGHBOURS = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])


def remove_islands(labels: Labels, least_share: float) -> Labels:
    """Remove the small connected parts of a label map and keep all large ones, however many there are.

    Voxels that share a face are connected.

    A small part of one label that touches a large part of another gets that one's label: a patch of a lung that was
    given to the wrong side is corrected, and no voxel of the lung is lost. A small part that touches none is an island.

    Args:
        labels: (X, Y, Z), the axes in any order, uint8, 0 background.
        least_share: Smallest size of a part that is kept, as a share of all foreground voxels, from 0 to 1. The largest
            part is always kept.

    Returns:
        A new label map of the same shape.
    """
    least = least_share * np.count_nonzero(labels)
    parts = [part for value in range(1, int(labels.max(initial=0)) + 1) for part in _parts(labels, value, least)]
    cleaned: Labels = labels.copy(order="K")
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


def remove_beside_body(ct: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Remove the parts of a lung mask that lie beside the body; see `beside_body`.

    Args:
        ct: CT in HU, 3D, in any orientation.
        mask: Label map on the grid of ``ct``, uint8.
    """
    ct, turned = upright(ct), upright(mask)
    hu, labels = (sitk.GetArrayViewFromImage(image) for image in (ct, turned))
    wrong = beside_body(hu, labels, turned.GetSpacing()[::-1])
    return sitk.Mask(mask, as_stored(wrong.astype(np.uint8), turned, mask), 0, 1) if wrong.any() else mask


def upright(image: sitk.Image) -> sitk.Image:
    """The image with its axes in LPS order; the image itself if they are already, because a copy of a CT is large."""
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return image if code == "LPS" else sitk.DICOMOrient(image, "LPS")


def as_stored(labels: Labels, turned: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Labels (Z, Y, X) of ``turned``, which is ``mask`` after `upright`, as an image on the grid of ``mask``."""
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(turned)
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(mask.GetDirection())
    image = image if code == "LPS" else sitk.DICOMOrient(image, code)
    image.CopyInformation(mask)  # turned there and back, the origin is rounded
    return image


def beside_body(hu: npt.NDArray[Any], labels: Labels, spacing: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Find the parts of a lung mask that lie beside the body, such as cushions and blankets full of air.

    Lungs lie within the convex hull of the body in each axial slice, even if the scan cuts the body; air under the back
    does not. The largest part is always lung.

    Args:
        hu: CT in HU, (Z, Y, X) in LPS.
        labels: Label map of the same shape, 0 background.
        spacing: mm, along (Z, Y, X).

    Returns:
        Whether each voxel belongs to a part of which more than half is beside the body; in a single slice, none does.
    """
    wrong = np.zeros(labels.shape, bool)
    parts = sorted(parts_of(labels), key=lambda part: np.count_nonzero(part[1]))[:-1]
    if not parts or len(labels) == 1:
        return wrong
    factor = pixels_in(PIXEL, steady(spacing)[1:], labels.shape[1:])
    inside = _within_hull(_body(np.asarray(hu[:, ::factor, ::factor])))
    for box, own in parts:
        planes, rows, columns = (found + axis.start for found, axis in zip(np.nonzero(own), box, strict=True))
        if inside[planes, rows // factor, columns // factor].mean() < 0.5:
            wrong[box] |= own
    return wrong


def _body(hu: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The largest piece of tissue (Z, Y, X), without couches, which are thin."""
    tissue = sitk.GetImageFromArray((hu > TISSUE_ABOVE).astype(np.uint8))
    opened = sitk.BinaryMorphologicalOpening(tissue, [1, 1, 0], sitk.sitkBox)
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True)
    return np.asarray(sitk.GetArrayViewFromImage(pieces) == 1)


def _within_hull(body: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether each pixel is within the convex hull of its slice's foreground, (Z, Y, X)."""
    within = np.zeros(body.shape, bool)
    columns = np.arange(body.shape[2])
    for plane, found in zip(body, within, strict=True):
        rows = np.flatnonzero(plane.any(axis=1))
        if not rows.size:
            continue
        every = np.arange(rows[0], rows[-1] + 1)
        first = plane[rows].argmax(axis=1)
        last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
        left = _convex(rows, first)
        right = -_convex(rows, -last)
        found[every] = (columns >= left[:, None]) & (columns <= right[:, None])
    return within


def _convex(rows: npt.NDArray[np.intp], values: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """The largest convex function that is nowhere above the values at some rows, at every row from first to last."""
    hull: list[tuple[int, int]] = []
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        while len(hull) > 1:
            (r1, v1), (r2, v2) = hull[-2:]
            if (v2 - v1) * (row - r1) < (value - v1) * (r2 - r1):
                break
            hull.pop()  # it lies above the line between its neighbours
        hull.append((row, value))
    corners = np.array(hull, float)
    found: npt.NDArray[np.float64] = np.interp(np.arange(rows[0], rows[-1] + 1), corners[:, 0], corners[:, 1])
    return found


def steady(spacing: Sequence[float]) -> list[float]:
    """A spacing in four significant digits, the same from every file format: NIfTI rounds to float32.

    Such rounding must not move a voxel that is equally far from both sides to the other one.
    """
    return [float(f"{one:.4g}") for one in spacing]


def pixels_in(millimetres: float, spacing: Sequence[float], shape: Sequence[int]) -> int:
    """The whole number of pixels that is nearest to a length: at least 1, at most the image's longer side.

    Args:
        millimetres: The length.
        spacing: mm of a pixel along each axis; the smallest counts.
        shape: Number of pixels along each axis.
    """
    return max(1, round(min(millimetres / float(min(spacing)), max(shape))))


def bounding_box(mask: npt.NDArray[np.generic]) -> tuple[slice, ...] | None:
    """Find the smallest box around the foreground; ``None`` if there is none."""
    box = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not occupied.size:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def parts_of(mask: npt.NDArray[Any]) -> Iterator[tuple[tuple[slice, ...], npt.NDArray[np.bool_]]]:
    """Each connected part of a mask (Z, Y, X): the box around it, and which voxels of the box are its own."""
    around = bounding_box(mask)
    if around is None:
        return
    numbered = sitk.ConnectedComponent(sitk.GetImageFromArray((mask[around] != 0).view(np.uint8)))
    statistics = sitk.LabelStatisticsImageFilter()  # LabelShapeStatistics would copy the image into runs
    statistics.Execute(numbered, numbered)
    numbers: npt.NDArray[np.uint32] = sitk.GetArrayViewFromImage(numbered)
    for part in sorted(statistics.GetLabels()):
        if part:
            ends = np.reshape(statistics.GetBoundingBox(part), (3, 2))[::-1].tolist()  # first and last of x, y, z
            own = np.asarray(numbers[tuple(slice(first, last + 1) for first, last in ends)] == part)
            starts = (axis.start + first for axis, (first, _) in zip(around, ends, strict=True))
            yield tuple(slice(start, start + size) for start, size in zip(starts, own.shape, strict=True)), own


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
    few = (sizes < least)[numbers]
    voxels, numbers = voxels[few], numbers[few]
    order = np.argsort(numbers, kind="stable")
    indices = np.stack(np.unravel_index(voxels[order], own.shape), -1) + [axis.start for axis in box]
    ends = np.cumsum(np.bincount(numbers, minlength=len(sizes)))
    return [(int(sizes[part]), indices[ends[part - 1] : ends[part]]) for part in range(1, len(sizes))]


def _joins_neighbour(labels: Labels, voxels: npt.NDArray[np.intp]) -> bool:
    """Give a part the label that it touches most; returns whether it touches any."""
    around = (voxels[:, None] + NEIGHBOURS).reshape(-1, 3)
    inside = ((around >= 0) & (around < labels.shape)).all(axis=1)
    touched = labels[tuple(around[inside].T)]
    touched = touched[touched > 0]
    if not touched.size:
        return False
    labels[tuple(voxels.T)] = np.bincount(touched).argmax()
    return True
