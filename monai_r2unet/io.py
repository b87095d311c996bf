"""Reading and writing of images, and their way into MONAI and back.

A file becomes a `SimpleITK.Image` (LPS, mm) whose pixels were all read and whose geometry was checked, or an
`InputError`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import orientation_ras_lps
from monai.utils.enums import MetaKeys, SpaceKeys
from monai.utils.misc import ensure_tuple
from PIL import Image

from monai_r2unet.atomic import written_whole
from monai_r2unet.dicom_series import is_dicom, read_dicom_file, read_dicom_folder
from monai_r2unet.errors import InputError
from monai_r2unet.image_files import READERS, axes_in_mm

__all__ = [
    "IMAGE_FORMATS",
    "MASK_FORMATS",
    "SimpleITKReader",
    "check_output",
    "check_place",
    "from_metatensor",
    "read_image",
    "read_image_with_notes",
    "same_grid",
    "to_metatensor",
    "write_image",
    "write_png",
]

Pathlike = str | os.PathLike[str]

IMAGE_FORMATS = (*READERS, ".dcm")  # and folders of DICOM
MASK_FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")  # one file each, so that it appears whole or not at all
SAME_GRID = 1e-3  # of a voxel


def read_image(path: Pathlike, *, series: str | None = None) -> sitk.Image:
    """Read a volume, a DICOM series or a photograph, completely or not at all.

    Args:
        path: NIfTI, NRRD, MetaImage or DICOM file, photograph (see `photographs.read_photograph`), or a folder with the
            slices of one DICOM series.
        series: the SeriesInstanceUID to read from a folder that holds several.

    Returns:
        A 3D image in LPS and mm (one slice has size X x Y x 1), or a 2D image for a photograph; colour is a vector
        image. DICOM is rescaled (HU for CT). Integers stay integers where that is exact.

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


def read_image_with_notes(path: Pathlike, *, series: str | None = None) -> tuple[sitk.Image, list[str]]:
    """As `read_image`, with the sentences of its warnings for the user instead of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        image = read_image(path, series=series)
    # Other categories are notices of other libraries.
    return image, [str(warning.message) for warning in caught if warning.category is UserWarning]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings that ITK prints from C++ and nibabel logs; what matters in them is checked here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    nibabel = logging.getLogger("nibabel.global")
    level = nibabel.level
    nibabel.setLevel(logging.CRITICAL + 1)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        nibabel.setLevel(level)
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


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Tell whether two images have the same size and, to 1e-3 of a voxel at every corner, the same geometry."""
    if a.GetSize() != b.GetSize():
        return False
    corners = np.array(list(itertools.product(*((0, n) for n in a.GetSize()))))
    shift = np.subtract(a.GetOrigin(), b.GetOrigin()) + corners @ (axes_in_mm(a) - axes_in_mm(b)).T
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
    affine[:-1, :-1] = axes_in_mm(image)
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
    _ending(Path(path))
    check_place(path, overwrite=overwrite)


def check_place(path: Pathlike, *, overwrite: bool) -> None:
    """Check that a file, of whatever kind, can be written to `path`.

    Raises:
        InputError: a file that is there already, or a folder that is missing or not writable.
    """
    path = Path(path)
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
        OutputError: the disk is full or failed; what was there before is untouched.
    """
    check_output(path, overwrite=overwrite)
    path = Path(path)
    with written_whole(path, _ending(path)) as temporary:
        try:
            with _quiet():
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:  # ITK's
            raise OSError(_reason(error)) from error
        try:  # ITK says nothing when the disk is full while it writes NIfTI or NRRD
            read_image(temporary)
        except InputError as error:
            raise OSError("not written to its end") from error


def write_png(picture: sitk.Image, path: Pathlike, *, overwrite: bool = False) -> None:
    """Write a mask or photograph as PNG, values as they are, so that it appears under its name whole or not at all.

    Args:
        picture: 2D, uint8, one value or RGB.
        path: ends with `.png`.
        overwrite: replace an existing file.

    Raises:
        InputError: a volume, which PNG cannot hold, or as `check_place`.
        OutputError: the disk is full or failed; what was there before is untouched.
    """
    path = Path(path)
    if picture.GetDimension() != 2:
        shown = " x ".join(map(str, picture.GetSize()))
        raise InputError(f"{path} cannot hold a volume ({shown}), PNG is for pictures: use {', '.join(MASK_FORMATS)}")
    check_place(path, overwrite=overwrite)
    with written_whole(path, ".png") as temporary:
        # By Pillow: ITK says nothing when the disk is full for the last bytes of a PNG.
        Image.fromarray(sitk.GetArrayFromImage(picture)).save(temporary)


def _ending(path: Path) -> str:
    for ending in MASK_FORMATS:
        if path.name.lower().endswith(ending):
            return ending
    raise InputError(f"{path} has an unknown ending, expected one of {', '.join(MASK_FORMATS)}: rename the output")
