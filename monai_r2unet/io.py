"""Reading and writing of images, and their way into MONAI and back.

A file becomes a `SimpleITK.Image` (LPS, mm) whose pixels were all read and whose geometry was checked, or an
`InputError`. ITK alone is not enough for that: it fills what a truncated NIfTI or JPEG lacks with zeros, and does not
compare every checksum.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import os
import re
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import orientation_ras_lps
from monai.utils.enums import MetaKeys, SpaceKeys
from monai.utils.misc import ensure_tuple

from monai_r2unet.dicom_series import is_dicom, read_dicom_file, read_dicom_folder
from monai_r2unet.errors import InputError

__all__ = [
    "IMAGE_FORMATS",
    "MASK_FORMATS",
    "SimpleITKReader",
    "check_output",
    "from_metatensor",
    "read_image",
    "same_grid",
    "to_metatensor",
    "write_image",
]

Pathlike = str | os.PathLike[str]

MASK_FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")  # one file each, so that it appears whole or not at all
SAME_GRID = 1e-3  # of a voxel
SHEAR = 0.1  # of a voxel: what orthonormal axes may move a voxel by
DEFLATE_LIMIT = 1040  # zlib cannot compress better than this


def read_image(path: Pathlike, *, series: str | None = None) -> sitk.Image:
    """Read a volume, a DICOM series or a photograph, completely or not at all.

    Args:
        path: NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG or TIFF file, or a folder with the slices of one DICOM series.
        series: the SeriesInstanceUID to read from a folder that holds several.

    Returns:
        A 3D image in LPS and mm (one slice has size X x Y x 1), or a 2D image for PNG, JPEG and TIFF; colour is a
        vector image. DICOM is rescaled (HU for CT). Integers stay integers where that is exact.

    Raises:
        InputError: nothing there, an unknown format, a damaged or truncated file, or an image that is not one regular
            volume.
    """
    path = Path(path)
    try:
        with _quiet():
            return _read(path, series)
    except InputError:
        raise
    # Whatever a damaged header makes nibabel, ITK or zlib raise, its cause is the file.
    except Exception as error:
        raise InputError(
            f"{path} could not be read ({_reason(error)}): check that it is complete and is what its name says"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings that ITK prints from C++; what matters in them is checked here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _reason(error: Exception) -> str:
    """Pick what tells most in the many lines of an ITK error: the last, where the innermost reader speaks."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Reason:", "-"))] or [type(error).__name__]
    return re.sub(r"^.*ERROR: (\w+\(0x[0-9a-f]+\): )?", "", told[-1]).rstrip(".:!")


def _read(path: Path, series: str | None) -> sitk.Image:
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: check the path")
    if path.is_dir():
        return read_dicom_folder(path, series)
    if series is not None:
        raise InputError(f"{path} is a file, but a series is chosen from a folder: leave out `series`")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file, expected an image: copy it again from its source")
    for ending, read in READERS.items():
        if path.name.lower().endswith(ending):
            return read(path)
    if is_dicom(path):
        return read_dicom_file(path)
    raise InputError(f"{path} has an unknown format, expected one of {', '.join(IMAGE_FORMATS)}: convert it first")


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
        _check_shape(path, shape)
        expected = math.prod(shape) * header.get_data_dtype().itemsize
        _check_length(path, path.stat().st_size * (DEFLATE_LIMIT if compressed else 1), expected)
        array = np.asarray(image.dataobj.get_unscaled())
        if compressed:
            while stream.read(1 << 20):  # to the end of the stream, where its checksum is compared
                pass
    array = _rescaled(array.reshape((*shape, 1)[:3]), image.dataobj.slope, image.dataobj.inter)
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        warnings.warn(
            f"{path} has no orientation (qform and sform codes are 0), so which side is left cannot be known: the axes "
            "are taken as stored",
            UserWarning,
            stacklevel=4,
        )
    to_mm = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)  # the codes of metre and micrometre
    lps = orientation_ras_lps(np.asarray(image.affine, dtype=np.float64)) * to_mm
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
    """Apply the NIfTI scaling, with integers where the result is exact."""
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


# ---- NRRD, MetaImage and photographs ---------------------------------------------------------------------------------


def _read_itk(path: Path, image_io: str, find_data: Callable[[Path], tuple[Path, int, bool] | None]) -> sitk.Image:
    """Read with the named ITK reader, after a check that the pixel data are complete."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    _check_shape(path, reader.GetSize())
    found = find_data(path)
    if found is not None:
        file, offset, compressed = found
        component = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        available = _inflated_length(file, offset) if compressed else file.stat().st_size - offset
        _check_length(path, available, math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * component)
    image: sitk.Image = reader.Execute()
    while image.GetDimension() > 3:
        size = list(image.GetSize())
        submatrix = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        image = sitk.Extract(image, [*size[:-1], 0], [0] * len(size), submatrix)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    _rigid(path, _matrix(image), image.GetSize())
    return image


def _read_photograph(path: Path, image_io: str) -> sitk.Image:
    if image_io == "JPEGImageIO":  # ITK greys out what a truncated JPEG lacks; a complete one has its end marker
        with path.open("rb") as file:
            if b"\xff\xd9" not in file.read()[-1024:]:
                raise InputError(f"{path} is a truncated JPEG (no end marker): copy it again from its source")
    image: sitk.Image = sitk.ReadImage(str(path), imageIO=image_io)
    if image.GetDimension() != 2:
        raise InputError(f"{path} holds {image.GetSize()[2]} pages, expected one picture: save each page by itself")
    return image


def _nrrd_data(path: Path) -> tuple[Path, int, bool] | None:
    """Say which file holds the data of a NRRD, from which byte, and whether compressed; None if that is for ITK."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            if not line.strip():
                break
            key, _, value = line.decode("latin-1").partition(":")
            fields[key.replace(" ", "").lower()] = value.strip()
        offset = file.tell()
    # ITK itself reports missing raw bytes; only the checksum of a compressed file needs a look.
    if fields.get("encoding", "").lower() not in ("gzip", "gz"):
        return None
    name = fields.get("datafile")
    if name is None:
        return path, offset, True
    return None if name.startswith("LIST") or "%" in name else (path.parent / name, 0, True)


def _metaimage_data(path: Path) -> tuple[Path, int, bool] | None:
    """As `_nrrd_data`, for a MetaImage."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        offset = file.tell()
    name = fields.get("ElementDataFile", "LIST")
    if name.startswith("LIST") or "%" in name or fields.get("BinaryData", "True").lower() != "true":
        return None
    compressed = fields.get("CompressedData", "False").lower() == "true"
    return (path, offset, compressed) if name.upper() == "LOCAL" else (path.parent / name, 0, compressed)


def _inflated_length(path: Path, offset: int) -> int:
    """Decompress a zlib or gzip stream to its end, where its checksum is compared, and count the bytes."""
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
    ".png": partial(_read_photograph, image_io="PNGImageIO"),
    ".jpg": partial(_read_photograph, image_io="JPEGImageIO"),
    ".jpeg": partial(_read_photograph, image_io="JPEGImageIO"),
    ".tif": partial(_read_photograph, image_io="TIFFImageIO"),
    ".tiff": partial(_read_photograph, image_io="TIFFImageIO"),
}
IMAGE_FORMATS = (*READERS, ".dcm")  # and folders of DICOM


# ---- checks on what was read -----------------------------------------------------------------------------------------


def _check_shape(path: Path, shape: Sequence[int]) -> None:
    shown = " x ".join(map(str, shape))
    if 0 in shape:
        raise InputError(f"{path} has an axis of size zero ({shown}), expected voxels: export the image again")
    if len(shape) < 2 or math.prod(shape[3:]) > 1:
        raise InputError(f"{path} has {len(shape)} axes ({shown}), expected one 3D volume: save each volume on its own")


def _check_length(path: Path, available: int, expected: int) -> None:
    if available < expected:
        raise InputError(
            f"{path} is truncated or its header is damaged (at most {available} bytes of pixels, expected {expected}): "
            "copy it again from its source"
        )


def _rigid(path: Path, matrix: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Split index-to-mm axes into spacing and the nearest orthonormal direction, of either handedness."""
    spacing = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InputError(f"{path} has a voxel spacing of {spacing.tolist()} mm, expected positive numbers: correct it")
    left, _, right = np.linalg.svd(matrix / spacing)
    direction = left @ right
    moved = np.abs((direction * spacing - matrix) * np.asarray(size)).sum(axis=1).max()
    if moved > SHEAR * spacing.min():
        raise InputError(
            f"{path} has sheared axes (making them orthogonal would move voxels by up to {moved:.2g} mm), expected a "
            "rectangular grid: resample it to one first"
        )
    return spacing, direction


def _matrix(image: sitk.Image) -> np.ndarray:
    """Return the axes of an image as columns, in mm a voxel (LPS)."""
    dimension = image.GetDimension()
    matrix: np.ndarray = np.reshape(image.GetDirection(), (dimension, dimension)) * np.asarray(image.GetSpacing())
    return matrix


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Tell whether two images have the same size and, to 1e-3 of a voxel at every corner, the same geometry."""
    if a.GetSize() != b.GetSize():
        return False
    corners = np.array(list(itertools.product(*((0, n) for n in a.GetSize()))))
    shift = np.subtract(a.GetOrigin(), b.GetOrigin()) + corners @ (_matrix(a) - _matrix(b)).T
    return bool(np.abs(shift).max() <= SAME_GRID * min(a.GetSpacing()))


# ---- MONAI -----------------------------------------------------------------------------------------------------------


def to_metatensor(image: sitk.Image) -> MetaTensor:
    """Turn an image into MONAI's form: X, Y, Z (then channels, if it has any), RAS+ affine, the same pixel type.

    The metadata are those of MONAI's own readers; `original_channel_dim` is NaN, their mark for "no channel", or -1.
    """
    array, meta = _array_and_meta(image)
    return MetaTensor(torch.from_numpy(array), meta=meta)


def _array_and_meta(image: sitk.Image) -> tuple[np.ndarray, dict[str, Any]]:
    dimension = image.GetDimension()
    array = sitk.GetArrayFromImage(image)
    affine = np.eye(dimension + 1)
    affine[:-1, :-1] = _matrix(image)
    affine[:-1, -1] = image.GetOrigin()
    affine = orientation_ras_lps(affine)
    meta: dict[str, Any] = {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(image.GetSize()),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if array.ndim == dimension else -1,
    }
    return np.swapaxes(array, 0, dimension - 1), meta


def from_metatensor(mask: MetaTensor | torch.Tensor | np.ndarray, like: sitk.Image) -> sitk.Image:
    """Turn an array X, Y, Z (no channel axis) into an image with exactly the geometry of `like`; bool becomes uint8.

    Raises:
        InputError: the array does not have the size of `like`.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.shape != like.GetSize():
        raise InputError(
            f"the array has shape {array.shape}, expected {like.GetSize()}, the size of its image: resample it"
        )
    image = sitk.GetImageFromArray(array.T.astype(np.uint8) if array.dtype == bool else array.T)
    image.CopyInformation(like)
    return image


class SimpleITKReader(ImageReader):
    """`read_image` as a reader for MONAI: `{"_target_": "LoadImaged", "reader": "monai_r2unet.io.SimpleITKReader"}`.

    LoadImage tries its other readers when `read` fails, so that what is refused here, such as a mixed DICOM series,
    would come back as nonsense from another. Hence the file is read in `get_data`, whose errors reach the user.
    """

    def verify_suffix(self, filename: Sequence[Pathlike] | Pathlike) -> bool:
        """Tell whether every name has a known ending, is a folder or is DICOM."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(p.name.lower().endswith(IMAGE_FORMATS) or p.is_dir() or (p.is_file() and is_dicom(p)) for p in paths)

    def read(self, data: Sequence[Pathlike] | Pathlike, **kwargs: Any) -> tuple[Pathlike, ...]:
        """Take the name of one image, for `get_data` to read."""
        return tuple(ensure_tuple(data))

    def get_data(self, img: Sequence[Pathlike]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the image: the array X, Y, Z and its metadata, as in `to_metatensor`.

        Raises:
            InputError: as `read_image`, or several names instead of one.
        """
        if len(img) != 1:
            raise InputError(f"{len(img)} files were given as one image, expected one: load the channels one by one")
        return _array_and_meta(read_image(img[0]))


# ---- writing ---------------------------------------------------------------------------------------------------------


def check_output(path: Pathlike, *, overwrite: bool) -> None:
    """Check, before any work is done, that an image can be written to `path`.

    Raises:
        InputError: unknown ending, a file that is there already, or a folder that is missing or not writable.
    """
    path = Path(path)
    _ending(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected the name of a file to write: add one")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: choose another name or use --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist, so {path.name} cannot be written: create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {path.parent} is not writable: choose another one or change its permissions")


def write_image(image: sitk.Image, path: Pathlike, *, overwrite: bool = False) -> None:
    """Write an image, compressed where the format allows, so that it appears under its name whole or not at all.

    Raises:
        InputError: as `check_output`.
        OSError, RuntimeError: the disk is full or failed; what was there before is untouched.
    """
    check_output(path, overwrite=overwrite)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_ending(path)}")
    try:
        with _quiet():
            sitk.WriteImage(image, str(temporary), useCompression=True)
        if ".nii" in _ending(path):  # ITK says nothing when the disk is full while it writes NIfTI
            try:
                read_image(temporary)
            except InputError as error:
                raise OSError(f"{path} could not be written completely: is the disk full?") from error
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _ending(path: Path) -> str:
    for ending in MASK_FORMATS:
        if path.name.lower().endswith(ending):
            return ending
    raise InputError(f"{path} has an unknown ending, expected one of {', '.join(MASK_FORMATS)}: rename the output")
