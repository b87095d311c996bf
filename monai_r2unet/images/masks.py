"""Masks as files, in the format given by the file name: the one place that knows all formats."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import Chosen
from monai_r2unet.images.dicom_rtstruct import (
    check_dicom_rtstruct,
    check_dicom_rtstruct_source,
    write_dicom_rtstruct,
)
from monai_r2unet.images.dicom_seg import check_dicom_seg, check_dicom_seg_source, write_dicom_seg
from monai_r2unet.images.photographs import ENDINGS as PHOTOGRAPHS
from monai_r2unet.images.seg_nrrd import write_seg_nrrd
from monai_r2unet.images.writing import MASK_FORMATS, check_output, check_place, write_image, write_png

__all__ = ["MASK_ENDINGS", "check_mask_output", "check_mask_source", "preview_of", "write_mask", "write_preview"]

Pathlike = str | os.PathLike[str]

STRUCTURE_SET = ".rtstruct.dcm"
MASK_ENDINGS = (".seg.nrrd", *MASK_FORMATS, STRUCTURE_SET, ".dcm", ".png")


def check_mask_output(path: Pathlike, source: Pathlike, *, overwrite: bool) -> None:
    """Check, before any work is done, that the mask of `source` can be written to `path`.

    Raises:
        InputError: an unknown ending; a format that needs another kind of source or an extra that is not installed; an
            existing file; or a folder that is missing or not writable.
    """
    name = os.fspath(path).lower()
    if not name.endswith(MASK_ENDINGS):
        raise InputError(f"{path} has an unknown ending, expected one of {', '.join(MASK_ENDINGS)}: rename the output")
    photograph = os.fspath(source).lower().endswith(PHOTOGRAPHS)
    if name.endswith(".png") and not photograph:
        raise InputError(
            f"{path} is a picture, but {source} is not a photograph, and PNG cannot hold the mask of a volume: end "
            f"the output with one of {', '.join(MASK_FORMATS)}"
        )
    if name.endswith(".seg.nrrd") and photograph:
        raise InputError(
            f"{path} is a segmentation of a volume, but {source} is a photograph: end the output with .png, or one of "
            f"{', '.join(MASK_FORMATS)}"
        )
    if name.endswith(STRUCTURE_SET):
        check_dicom_rtstruct(path, source, overwrite=overwrite)
    elif name.endswith(".dcm"):
        check_dicom_seg(path, source, overwrite=overwrite)
    elif name.endswith(".png"):
        check_place(path, overwrite=overwrite)
    else:
        check_output(path, overwrite=overwrite)


def check_mask_source(path: Pathlike, *, bundle: Bundle, source: Pathlike, series: Chosen = None) -> None:
    """Check, before the network runs, that `source` and the bundle have what the format of `path` must state.

    Args:
        path: Output file; its ending selects the format.
        bundle: The bundle that will make the mask.
        source: The file or folder to segment.
        series: UID or description of the series, if the folder holds several.

    Raises:
        InputError: something is missing that DICOM requires.
    """
    name = os.fspath(path).lower()
    if name.endswith(STRUCTURE_SET):
        check_dicom_rtstruct_source(source, series=series)
    elif name.endswith(".dcm"):
        check_dicom_seg_source(bundle, source, series=series)


def preview_of(path: Pathlike) -> Path:
    """Where the coloured picture of a PNG mask with several labels lies: ``a.png`` -> ``a.preview.png``."""
    return Path(path).with_suffix(".preview.png")


def write_preview(mask: sitk.Image, path: Pathlike, *, bundle: Bundle) -> None:
    """Write the picture `preview_of` a PNG mask with several labels, in their colours on black; else do nothing.

    Args:
        mask: Mask with the values of the bundle's labels.
        path: Path of the mask. An existing picture is replaced, as it shows another mask.
        bundle: The bundle that made the mask.

    Raises:
        OutputError: the disk is full or failed.
    """
    if not os.fspath(path).lower().endswith(".png") or len(bundle.labels) == 1:
        return
    colours = np.zeros((256, 3), np.uint8)
    for label in bundle.labels:
        colours[label["value"]] = label["colour"]
    shown = sitk.GetImageFromArray(colours[sitk.GetArrayViewFromImage(mask)], isVector=True)
    write_png(shown, preview_of(path), overwrite=True)


def write_mask(
    mask: sitk.Image,
    path: Pathlike,
    *,
    bundle: Bundle,
    source: Pathlike,
    series: Chosen = None,
    overwrite: bool = False,
) -> None:
    """Write a mask atomically: Slicer segmentation, DICOM SEG, RTSTRUCT, NIfTI, NRRD, MetaImage; PNG for a photograph.

    With a single label, a PNG has the values 0 and 255, as is usual, so that viewers show it; with several labels it
    has their values, which look black; `write_preview` shows them in colour.

    Args:
        mask: Mask on the grid of the source; 0 background, 1 and up the bundle's labels.
        path: Output file; its ending selects the format.
        bundle: The bundle that made the mask; its labels are stored if the format supports them.
        source: The segmented file or folder.
        series: UID or description of the segmented series, if the folder holds several.
        overwrite: Replace an existing file.

    Raises:
        InputError: as `check_mask_output`.
        OutputError: the disk is full or failed; an existing file is left untouched.
    """
    name = os.fspath(path).lower()
    if name.endswith(STRUCTURE_SET):
        write_dicom_rtstruct(mask, bundle, source, path, series=series, overwrite=overwrite)
    elif name.endswith(".dcm"):
        write_dicom_seg(mask, bundle, source, path, series=series, overwrite=overwrite)
    elif name.endswith(".seg.nrrd"):
        write_seg_nrrd(mask, bundle.labels, path, overwrite=overwrite)
    elif name.endswith(".png"):
        visible = sitk.Cast(mask > 0, sitk.sitkUInt8) * 255 if len(bundle.labels) == 1 else mask
        write_png(visible, path, overwrite=overwrite)
    else:
        write_image(mask, path, overwrite=overwrite)
