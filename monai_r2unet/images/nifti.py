"""Read NIfTI, completely or not at all, with the voxel size that the header states."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.checks import DEFLATE_LIMIT, by, check_length, check_shape, rigid, warn, warn_of_thickness

__all__ = ["read_nifti"]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VECTOR = 1007  # the intent code of a vector at each voxel


def read_nifti(path: Path) -> sitk.Image:
    """Read NIfTI with nibabel: ITK fills a truncated file with zeros, and reads a.nii when asked for a bad a.nii.gz."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        version2 = stream.read(4) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # the size of a NIfTI-2 header, 540
        stream.seek(0)
        kind: Any = nib.Nifti2Image if version2 else nib.Nifti1Image
        pixdim = kind.header_class.from_fileobj(stream, check=False)["pixdim"][1:4]  # nibabel's check makes zeros ones
        stream.seek(0)
        image: Any = kind.from_stream(stream)
        shape, header = image.shape, image.header
        # Several values per voxel, as in probabilities of several labels; any other fifth axis is refused.
        vector = len(shape) == 5 and shape[3] == 1 and int(header["intent_code"]) == VECTOR
        check_shape(path, shape[:3] if vector else shape)
        offset, expected = image.dataobj.offset, math.prod(shape) * header.get_data_dtype().itemsize
        if offset < header.sizeof_hdr:
            raise InputError(f"{path} has a damaged header (vox_offset {offset}): copy it again from its source")
        check_length(path, path.stat().st_size * (DEFLATE_LIMIT if compressed else 1), expected)
        array = np.asarray(image.dataobj.get_unscaled())
        stream.seek(offset + expected)
        behind = sum(map(len, iter(lambda: stream.read(1 << 20), b"")))  # to the end, which verifies a checksum
        if behind >= math.prod(shape[:2]) * header.get_data_dtype().itemsize:  # a slice, and not padding
            check_length(path, expected + behind, expected, exactly=True)
    array = array.reshape((*shape[:3], shape[4]) if vector else (*shape, 1)[:3])
    array = _rescaled(path, array, image.dataobj.slope, image.dataobj.inter)
    _check_pixdim(path, pixdim, shape[:3], image)
    to_mm = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)  # the codes of metre and micrometre
    lps = RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64) * to_mm
    thick = len(shape) > 2 and (array.shape[2] > 1 or pixdim[2] > 0)
    if array.shape[2] == 1 and not lps[:3, 2].any():  # many 2D files leave the third axis empty
        normal = np.cross(lps[:3, 0], lps[:3, 1])
        lps[:3, 2] = normal / np.linalg.norm(normal)
        thick = False
    spacing, direction = rigid(path, lps[:3, :3], array.shape[:3])
    volume = sitk.GetImageFromArray(np.swapaxes(array, 0, 2), isVector=array.ndim == 4)
    volume.SetSpacing(spacing.tolist())
    volume.SetDirection(direction.ravel().tolist())
    volume.SetOrigin(lps[:3, 3].tolist())
    if not thick:
        warn_of_thickness(path, volume)
    return volume


def _check_pixdim(path: Path, pixdim: np.ndarray, shape: Sequence[int], image: Any) -> None:
    """Check the voxel size of the header: pixdim counts where there is no sform, and nibabel takes 1 for 0."""
    sizes = pixdim[: len(shape)][np.asarray(shape) > 1]
    affine, sform = image.header.get_sform(coded=True)
    if sform == 0 and not (np.isfinite(sizes).all() and sizes.all()):
        raise InputError(
            f"{path} has a voxel spacing of {pixdim[: len(shape)].tolist()} mm (pixdim), expected positive numbers: "
            "correct it"
        )
    if sform > 0:
        used = np.linalg.norm(affine[:3, : len(shape)], axis=0)[np.asarray(shape) > 1]
        if (sizes > 0).all() and not np.allclose(used, sizes, rtol=0.01):
            warn(
                f"{path} states two voxel sizes, {by(used)} mm (sform, which is used) and {by(sizes)} mm (pixdim): "
                "check which is right"
            )
    elif int(image.header["qform_code"]) == 0:
        doubt = ", and their size of 1 mm may be a default: check it" if (sizes == 1).all() else ""
        warn(
            f"{path} has no orientation (qform and sform codes are 0), so which side is left cannot be known: the axes "
            f"are taken as stored{doubt}"
        )


def _rescaled(path: Path, array: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Apply the NIfTI scaling, using integers if the result is exact."""
    if array.dtype.names:  # RGB
        array = np.stack([array[name] for name in array.dtype.names], axis=-1)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(
            f"{path}: voxels of type {array.dtype} are not supported, expected integers, floats or RGB: convert them"
        )
    if (slope, inter) != (1, 0):
        whole = array.dtype.kind in "iu" and float(slope).is_integer() and float(inter).is_integer()
        array = array * np.float64(slope) + np.float64(inter)
        fits = (t for t in (np.int16, np.int32) if array.min() >= np.iinfo(t).min and array.max() <= np.iinfo(t).max)
        array = array.astype(next(fits, np.float32) if whole else np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
