"""The header of a DICOM slice: what GDCM reads, and the size of pixels, which it invents if there is none."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import check_sound, contents, unreadable
from monai_r2unet.images.itk_paths import itk_path

__all__ = ["Slice", "read_header"]

UNIT = 2e-3  # effect of rounding direction cosines to three digits on their products

# Attributes in mm that some classes of image have in place of PixelSpacing, and why none is the size of a pixel in the
# patient (DICOM PS3.3, 10.7.1).
OTHER_SPACINGS = {
    "0018|1164": "ImagerPixelSpacing, at the detector",
    "0018|2010": "NominalScannedPixelSpacing, on the film",
    "3002|0011": "ImagePlanePixelSpacing, on the plane of the image",
}
# Enhanced classes of image keep these in functional groups: (attribute, its macro).
IN_GROUPS = {
    "0028|0030": "0028|9110",  # PixelSpacing in PixelMeasuresSequence
    "0018|0088": "0028|9110",  # SpacingBetweenSlices
    "0018|0050": "0028|9110",  # SliceThickness
    "0020|0032": "0020|9113",  # ImagePositionPatient in PlanePositionSequence
    "0020|0037": "0020|9116",  # ImageOrientationPatient in PlaneOrientationSequence
}
MACRO = 256  # bytes within which a macro states an attribute


class Slice(NamedTuple):
    """The relevant header of one file; position and pixel spacing in mm."""

    path: Path
    series: str
    modality: str
    description: str
    size: tuple[int, ...]
    spacing: tuple[float, float, float]  # NaN where the header has none; the third from its neighbours' positions
    other_spacing: str  # attribute with a size of pixels that is not theirs in the patient
    pixel_type: int
    orientation: np.ndarray  # direction cosines of a row, then of a column; NaN where the header has none
    position: np.ndarray  # NaN where the header has none


def read_header(path: Path) -> Slice:
    """Read the header of a DICOM image.

    Raises:
        InputError: the file is damaged, compressed in an unknown way, or states an impossible orientation.
    """
    check_sound(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    try:
        with itk_path(path) as name:
            reader.SetFileName(name)
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(path) from error

    def text(tag: str) -> str:
        value = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip(" \0")

    def numbers(tag: str, count: int) -> np.ndarray:
        values = _numbers(text(tag), count)
        if tag in IN_GROUPS and not np.isfinite(values).all():
            values = _numbers(_in_functional_group(path, tag), count)
        return values

    orientation = numbers("0020|0037", 6)
    axes = orientation.reshape(2, 3)
    if np.isfinite(axes).all() and not np.allclose(axes @ axes.T, np.eye(2), atol=UNIT):
        raise InputError(
            f"the DICOM file {path} has orientation {orientation.tolist()}, expected two perpendicular unit vectors: "
            "copy it again from its source"
        )
    between_rows, between_columns = numbers("0028|0030", 2)
    steps = (numbers("0018|0088", 1)[0], numbers("0018|0050", 1)[0])
    return Slice(
        path=path,
        series=text("0020|000e"),
        modality=text("0008|0060"),
        description=text("0008|103e"),
        size=reader.GetSize(),
        # GDCM takes 1 mm where it finds none, and looks elsewhere in some classes.
        spacing=(between_columns, between_rows, next((step for step in steps if 0 < step < np.inf), np.nan)),
        other_spacing=next((name for tag, name in OTHER_SPACINGS.items() if text(tag)), ""),
        pixel_type=reader.GetPixelID(),
        orientation=orientation,
        position=numbers("0020|0032", 3),
    )


def _numbers(text: str, count: int) -> np.ndarray:
    """The numbers of an attribute; NaN if they are not `count`."""
    try:
        values = [float(part) for part in text.split("\\")]
    except ValueError:
        values = []
    return np.array(values if len(values) == count else [np.nan] * count)


def _in_functional_group(path: Path, tag: str) -> str:
    """The value of an attribute in the functional groups of an enhanced image with one frame."""

    def encoded(name: str) -> bytes:
        return re.escape(struct.pack("<HH", *(int(part, 16) for part in name.split("|"))))

    value = rb"(?:DS..|....)([-+.0-9eE \\]+)"
    found = re.search(encoded(IN_GROUPS[tag]) + rb".{0,%d}?" % MACRO + encoded(tag) + value, contents(path), re.DOTALL)
    return "" if found is None else found[1].decode("ascii")
