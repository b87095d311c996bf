"""The file formats of images, each read completely or refused.

ITK alone does not ensure this: it fills missing data of a truncated NIfTI with zeros and skips some checksums.
"""

from __future__ import annotations

import gzip
import math
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import axes_in_mm, orthonormal
from monai_r2unet.images.photographs import ENDINGS as PHOTOGRAPHS
from monai_r2unet.images.photographs import read_photograph

__all__ = ["READERS"]

SHEAR = 0.1  # of a voxel: largest displacement of a voxel by orthonormal axes
CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")  # bytes that never occur in text
METAIMAGE_SERIES = re.compile(r"[^%]*%0?\d*[du][^%]* \d+ \d+ [1-9]\d*")  # a pattern, first, last and step
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NIFTI_VECTOR = 1007  # the intent code of a vector at each voxel
DEFLATE_LIMIT = 1040  # zlib cannot compress better than this


# ---- NIfTI -----------------------------------------------------------------------------------------------------------


def _read_nifti(path: Path) -> sitk.Image:
    """Read NIfTI with nibabel: ITK fills a truncated file with zeros, and reads a.nii when asked for a bad a.nii.gz."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        version2 = stream.read(4) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # the size of a NIfTI-2 header, 540
        stream.seek(0)
        image: Any = (nib.Nifti2Image if version2 else nib.Nifti1Image).from_stream(stream)
        shape, header = image.shape, image.header
        # Several values a voxel, as in probabilities of several labels; any other fifth axis is refused.
        vector = len(shape) == 5 and shape[3] == 1 and int(header["intent_code"]) == NIFTI_VECTOR
        _check_shape(path, shape[:3] if vector else shape)
        expected = math.prod(shape) * header.get_data_dtype().itemsize
        _check_length(path, path.stat().st_size * (DEFLATE_LIMIT if compressed else 1), expected)
        array = np.asarray(image.dataobj.get_unscaled())
        if compressed:
            while stream.read(1 << 20):  # to the end of the stream, which verifies its checksum
                pass
    array = array.reshape((*shape[:3], shape[4]) if vector else (*shape, 1)[:3])
    array = _rescaled(array, image.dataobj.slope, image.dataobj.inter)
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        warnings.warn(
            f"{path} has no orientation (qform and sform codes are 0), so which side is left cannot be known: the axes "
            "are taken as stored",
            UserWarning,
            stacklevel=4,
        )
    to_mm = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)  # the codes of metre and micrometre
    lps = RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64) * to_mm
    if array.shape[2] == 1 and not lps[:3, 2].any():  # many 2D files leave the third axis empty
        normal = np.cross(lps[:3, 0], lps[:3, 1])
        lps[:3, 2] = normal / np.linalg.norm(normal)
    spacing, direction = _rigid(path, lps[:3, :3], array.shape[:3])
    volume = sitk.GetImageFromArray(np.swapaxes(array, 0, 2), isVector=array.ndim == 4)
    volume.SetSpacing(spacing.tolist())
    volume.SetDirection(direction.ravel().tolist())
    volume.SetOrigin(lps[:3, 3].tolist())
    return volume


def _rescaled(array: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Apply the NIfTI scaling, using integers if the result is exact."""
    if array.dtype.names:  # RGB
        array = np.stack([array[name] for name in array.dtype.names], axis=-1)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(f"voxels of type {array.dtype} are not supported, expected integers, floats or RGB")
    if (slope, inter) != (1, 0):
        whole = array.dtype.kind in "iu" and float(slope).is_integer() and float(inter).is_integer()
        array = array * np.float64(slope) + np.float64(inter)
        fits = (t for t in (np.int16, np.int32) if array.min() >= np.iinfo(t).min and array.max() <= np.iinfo(t).max)
        array = array.astype(next(fits, np.float32) if whole else np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# ---- NRRD and MetaImage ----------------------------------------------------------------------------------------------


def _read_itk(path: Path, image_io: str, find_data: Callable[[Path], tuple[Path, int, bool] | None]) -> sitk.Image:
    """Read with the named ITK reader, after checking that the pixel data are complete."""
    found = find_data(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    _check_shape(path, reader.GetSize())
    if found is not None:
        file, offset, compressed = found
        component = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        expected = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * component
        stored = file.stat().st_size - offset
        _check_length(path, stored * (DEFLATE_LIMIT if compressed else 1), expected)
        _check_length(path, _inflated_length(file, offset) if compressed else stored, expected, exactly=file == path)
    image: sitk.Image = reader.Execute()
    while image.GetDimension() > 3:
        size = list(image.GetSize())
        submatrix = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        image = sitk.Extract(image, [*size[:-1], 0], [0] * len(size), submatrix)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    _rigid(path, axes_in_mm(image), image.GetSize())
    return image


def _nrrd_data(path: Path) -> tuple[Path, int, bool] | None:
    """Find the data of a NRRD: file, first byte, and whether compressed; None leaves it to ITK."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            if not line.strip():
                break
            if CONTROL.search(line):  # already voxels: the empty line before them is damaged, which makes ITK crash
                raise InputError(f"{path} has a damaged header (it does not end): copy it again from its source")
            key, _, value = line.decode("latin-1").partition(":")
            fields[key.replace(" ", "").lower()] = value.strip()
        offset = file.tell()
    encoding = fields.get("encoding", "").lower()
    compressed = encoding in ("gzip", "gz")
    if (encoding != "raw" and not compressed) or {"byteskip", "lineskip"} & fields.keys():
        return None
    name = fields.get("datafile")
    if name is None:
        return path, offset, compressed
    if name.startswith("LIST") or "%" in name:
        return None
    return path.parent / name, 0, compressed


def _metaimage_data(path: Path) -> tuple[Path, int, bool] | None:
    """As `_nrrd_data`, for a MetaImage.

    Raises:
        InputError: if the header lacks a required entry, which ITK reports only on the terminal, or names its data in a
            way that makes ITK crash.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        offset = file.tell()
    name = fields.get("ElementDataFile", "")
    usable = {
        "NDims": fields.get("NDims", "").isdecimal(),
        "DimSize": all(part.isdecimal() for part in fields.get("DimSize", "-").split()),
        "ElementType": fields.get("ElementType", "").startswith("MET_"),
        "ElementDataFile": bool(name) and name.isprintable() and ("%" not in name or METAIMAGE_SERIES.fullmatch(name)),
    }
    bad = [field for field, good in usable.items() if not good]
    if bad:
        raise InputError(f"{path} has a damaged header ({', '.join(bad)}): copy it again from its source")
    if name.startswith("LIST") or "%" in name or fields.get("BinaryData", "True").lower() != "true":
        return None
    compressed = fields.get("CompressedData", "False").lower() == "true"
    return (path, offset, compressed) if name.upper() == "LOCAL" else (path.parent / name, 0, compressed)


def _inflated_length(path: Path, offset: int) -> int:
    """Decompress a zlib or gzip stream to its end, which verifies its checksum, and count the bytes."""
    stream, length = zlib.decompressobj(wbits=47), 0  # 47: either header
    with path.open("rb") as file:
        file.seek(offset)
        while not stream.eof and (chunk := file.read(1 << 16)):
            length += len(stream.decompress(chunk))
    if not stream.eof:
        raise EOFError(f"the compressed data end early, after {length} bytes")
    return length


READERS: dict[str, Callable[[Path], sitk.Image]] = {
    ".nii.gz": _read_nifti,
    ".nii": _read_nifti,
    ".nrrd": partial(_read_itk, image_io="NrrdImageIO", find_data=_nrrd_data),
    ".nhdr": partial(_read_itk, image_io="NrrdImageIO", find_data=_nrrd_data),
    ".mha": partial(_read_itk, image_io="MetaImageIO", find_data=_metaimage_data),
    ".mhd": partial(_read_itk, image_io="MetaImageIO", find_data=_metaimage_data),
    **dict.fromkeys(PHOTOGRAPHS, read_photograph),
}


# ---- checks on what was read -----------------------------------------------------------------------------------------


def _check_shape(path: Path, shape: Sequence[int]) -> None:
    shown = " x ".join(map(str, shape))
    if 0 in shape:
        raise InputError(f"{path} has an axis of size zero ({shown}), expected voxels: export the image again")
    if len(shape) < 2 or math.prod(shape[3:]) > 1:
        raise InputError(f"{path} has {len(shape)} axes ({shown}), expected one 3D volume: save each volume on its own")


def _check_length(path: Path, available: int, expected: int, exactly: bool = False) -> None:
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


def _rigid(path: Path, matrix: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
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
