"""Selected axial slices of a volume, however its voxels are stored."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import axes_in_mm

__all__ = ["axial_axis", "put_slices", "take_slices"]

UP = 2  # patient axis from feet to head


def axial_axis(image: sitk.Image) -> int:
    """The axis of the stored image, 0 to 2, along which axial slices are stacked, as in MONAI's Orientation.

    Up to 45 degrees of obliquity it is the axis nearest to the body's long axis. Beyond that, the stored axis closest
    to any body axis is assigned first, so that the order of the axes in the file never matters.

    Args:
        image: 3D image.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes_in_mm(image)
    return int(np.flatnonzero(nib.orientations.io_orientation(affine)[:, 0] == UP)[0])


def take_slices(image: sitk.Image, indices: Sequence[int]) -> sitk.Image:
    """A volume of only these axial slices, in this order.

    Its spacing between slices is meaningless: use it only for slice-by-slice segmentation.

    Args:
        image: 3D image.
        indices: Slice indices along the image's axial axis.

    Raises:
        InputError: if the image is not 3D, or an index is repeated or out of range.
    """
    if image.GetDimension() != 3:
        raise InputError("slices can only be chosen from a volume, but the image is a 2D picture: leave out `slices`")
    axis = axial_axis(image)
    count = image.GetSize()[axis]
    if not indices or len(set(indices)) != len(indices) or not all(0 <= index < count for index in indices):
        raise InputError(f"slices are {list(indices)}, expected different whole numbers from 0 to {count - 1}")
    taken = np.take(sitk.GetArrayViewFromImage(image), indices, axis=2 - axis)
    part = sitk.GetImageFromArray(taken, isVector=image.GetNumberOfComponentsPerPixel() > 1)
    part.SetSpacing(image.GetSpacing())
    part.SetDirection(image.GetDirection())
    return part


def put_slices(part: sitk.Image, indices: Sequence[int], image: sitk.Image) -> sitk.Image:
    """The inverse of `take_slices` for a mask: on the grid of ``image``, 0 in the slices that were not taken."""
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    where: list[slice | list[int]] = [slice(None)] * 3
    where[2 - axial_axis(image)] = list(indices)
    array[tuple(where)] = sitk.GetArrayViewFromImage(part)
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return mask
