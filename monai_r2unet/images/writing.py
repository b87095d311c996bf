"""Write images atomically, without MONAI, which takes seconds to import."""

from __future__ import annotations

import os
from pathlib import Path

import SimpleITK as sitk
from PIL import Image

from monai_r2unet.errors import InputError
from monai_r2unet.files import written_whole
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.reading import Pathlike, quiet_itk, read_image_with_notes, reason_of

__all__ = ["MASK_FORMATS", "check_output", "check_place", "write_image", "write_png"]

MASK_FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")  # single-file formats, which can be written atomically


def check_output(path: Pathlike, *, overwrite: bool) -> None:
    """Check, before any work is done, that an image can be written to `path`.

    Raises:
        InputError: unknown ending, an existing file, or a folder that is missing or not writable.
    """
    _ending(Path(path))
    check_place(path, overwrite=overwrite)


def check_place(path: Pathlike, *, overwrite: bool) -> None:
    """Check that a file of any kind can be written to `path`.

    Raises:
        InputError: an existing file, or a folder that is missing or not writable.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} cannot be written, as it holds a null character: choose another name")
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another name") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected the name of a file to write: add one")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: choose another name", remedy="replace it", option="overwrite")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist, so {path.name} cannot be written: create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {path.parent} is not writable: choose another one or change its permissions")


def write_image(image: sitk.Image, path: Pathlike, *, overwrite: bool = False) -> None:
    """Write an image atomically, compressed if the format allows it.

    Raises:
        InputError: as `check_output`.
        OutputError: the disk is full or failed; an existing file is left untouched.
    """
    check_output(path, overwrite=overwrite)
    path = Path(path)
    with written_whole(path, _ending(path)) as temporary:
        try:
            with quiet_itk(), itk_path(temporary) as name:
                sitk.WriteImage(image, name, useCompression=True)
        except RuntimeError as error:  # raised by ITK
            raise OSError(reason_of(error)) from error
        try:  # ITK does not report a full disk when it writes NIfTI or NRRD
            read_image_with_notes(temporary)
        except InputError as error:
            raise OSError("not written completely") from error


def write_png(picture: sitk.Image, path: Pathlike, *, overwrite: bool = False) -> None:
    """Write a mask or photograph atomically as PNG, with unchanged values.

    Args:
        picture: 2D image, uint8, scalar or RGB.
        path: Output file, ending with `.png`.
        overwrite: Replace an existing file.

    Raises:
        InputError: a volume, which PNG cannot hold, or as `check_place`.
        OutputError: the disk is full or failed; an existing file is left untouched.
    """
    path = Path(path)
    if picture.GetDimension() != 2:
        shown = " x ".join(map(str, picture.GetSize()))
        raise InputError(f"{path} cannot hold a volume ({shown}), PNG is for pictures: use {', '.join(MASK_FORMATS)}")
    check_place(path, overwrite=overwrite)
    with written_whole(path, ".png") as temporary:
        # Written by Pillow: ITK does not report a disk that is full for the last bytes of a PNG.
        Image.fromarray(sitk.GetArrayFromImage(picture)).save(temporary)


def _ending(path: Path) -> str:
    for ending in MASK_FORMATS:
        if path.name.lower().endswith(ending):
            return ending
    raise InputError(f"{path} has an unknown ending, expected one of {', '.join(MASK_FORMATS)}: rename the output")
