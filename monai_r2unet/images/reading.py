"""Read images without MONAI, which takes seconds to import.

The result is a `SimpleITK.Image` (LPS, mm) with all pixels read and its geometry checked, or an `InputError`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import Chosen, is_dicom
from monai_r2unet.images.dicom_series import read_dicom_file, read_dicom_folder
from monai_r2unet.images.formats import READERS
from monai_r2unet.images.grid import unlikely_size

__all__ = ["IMAGE_FORMATS", "Pathlike", "quiet_itk", "read_image", "read_image_with_notes", "reason_of"]

Pathlike = str | os.PathLike[str]

IMAGE_FORMATS = (*READERS, ".dcm")  # and DICOM folders


def read_image(path: Pathlike, *, series: Chosen = None) -> sitk.Image:
    """Read a volume, a DICOM series or a photograph, completely or not at all.

    Args:
        path: NIfTI, NRRD, MetaImage or DICOM file, photograph (see `photographs.read_photograph`), or a folder with the
            slices of one DICOM series.
        series: The series to read from a folder that holds several, by UID or description; of several names, one.

    Returns:
        A 3D image in LPS and mm (a single slice has size X x Y x 1), or a 2D image for a photograph; colour is a vector
        image. DICOM is rescaled (HU for CT). Integers remain integers if the result is exact.

    Raises:
        InputError: no such file, an unknown format, a damaged or truncated file, or an image that is not one regular
            volume.
    """
    path = Path(path)
    try:
        with quiet_itk():
            image = _read(path, series)
    except InputError:
        raise
    # Whatever nibabel, ITK or zlib raise on a damaged header, the file is the cause.
    except Exception as error:
        raise InputError(
            f"{path} could not be read ({reason_of(error)}): check that it is complete and is what its name says"
        ) from error
    doubt = unlikely_size(image)
    if doubt is not None:
        warnings.warn(f"{path}: {doubt}", UserWarning, stacklevel=2)
    return image


def read_image_with_notes(path: Pathlike, *, series: Chosen = None) -> tuple[sitk.Image, list[str]]:
    """Like `read_image`, but returns the messages of its warnings instead of issuing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        image = read_image(path, series=series)
    # Other categories come from other libraries.
    return image, [str(warning.message) for warning in caught if warning.category is UserWarning]


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Silence ITK's C++ warnings and nibabel's log; everything relevant is checked here."""
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


def reason_of(error: Exception) -> str:
    """Pick the most informative line of an ITK error: the last one, from the innermost reader."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Reason:", "-"))] or [type(error).__name__]
    return re.sub(r"^.*ERROR: (\w+\(0x[0-9a-f]+\): )?", "", told[-1]).rstrip(".:!")


def _read(path: Path, series: Chosen) -> sitk.Image:
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: check the path")
    if path.is_dir():
        return read_dicom_folder(path, series)
    if series is not None:
        raise InputError(f"{path} is a file, but a series is chosen from a folder: leave out `series`")
    if not path.is_file():  # a pipe or a device, at which reading waits
        raise InputError(f"{path} is neither a file nor a folder: check the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file, expected an image: copy it again from its source")
    for ending, read in READERS.items():
        if path.name.lower().endswith(ending):
            return read(path)
    if is_dicom(path):
        return read_dicom_file(path)
    raise InputError(f"{path} has an unknown format, expected one of {', '.join(IMAGE_FORMATS)}: convert it first")
