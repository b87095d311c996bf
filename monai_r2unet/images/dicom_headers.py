"""The header of a DICOM slice: what GDCM reads, and the size of pixels, which it invents if there is none."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import DEFLATED, check_sound, contents, transfer_syntax, unreadable
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
PIXELS = re.compile(rb"\xe0\x7f\x10\0(?:O[BW]\0\0)?(....)", re.DOTALL)  # PixelData in little endian, and its length
BEHIND_PIXELS = (b"", b"\xfa\xff", b"\xfc\xff")  # nothing, or the group of signatures or of padding
UNCOMPRESSED = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", DEFLATED)


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
    colour: bool  # several values a pixel
    rescale: tuple[float, float] | None  # slope and intercept; None if the header does not state them
    orientation: np.ndarray  # direction cosines of a row, then of a column; NaN where the header has none
    position: np.ndarray  # NaN where the header has none


def read_header(path: Path) -> Slice:
    """Read the header of a DICOM image.

    Raises:
        InputError: the file is damaged, compressed in an unknown way, or contradicts itself: an impossible orientation,
            pixels for another size, inverted CT.
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
    if (text("0008|0060"), text("0028|0004")) == ("CT", "MONOCHROME1"):
        raise InputError(
            f"the DICOM file {path} holds CT in MONOCHROME1, which is read as its negative, so its values are not HU: "
            "export it again in MONOCHROME2"
        )
    if text("0028|0002") == "1":
        _check_pixels(path, reader.GetSize(), text("0028|0100"))
    between_rows, between_columns = numbers("0028|0030", 2)
    slope, intercept = numbers("0028|1053", 1)[0], numbers("0028|1052", 1)[0]
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
        colour=reader.GetNumberOfComponents() > 1,
        rescale=(slope, intercept) if math.isfinite(slope + intercept) else None,
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


def _check_pixels(path: Path, size: tuple[int, ...], bits: str) -> None:
    """Refuse uncompressed pixels of another length than the header describes.

    GDCM takes what is missing from anywhere in memory, and drops what is left over.

    Raises:
        InputError: bytes are missing, or there are more than padding.
    """
    if transfer_syntax(path) not in UNCOMPRESSED or not bits.isdecimal():
        return
    data = contents(path)
    for pixels in PIXELS.finditer(data):
        (stored,) = struct.unpack("<I", pixels[1])
        end = pixels.end() + stored
        if end > len(data) or data[end : end + 2] not in BEHIND_PIXELS:  # that of an icon, or values that look like it
            continue
        row = math.ceil(size[0] * int(bits) / 8)
        expected = math.ceil(math.prod(size) * int(bits) / 8)
        if not expected <= stored < expected + max(row, 2):
            raise InputError(
                f"the DICOM file {path} holds {stored} bytes of pixels, but its header describes "
                f"{' x '.join(map(str, size))} pixels of {bits} bits ({expected} bytes): copy it again from its source"
            )
        return


def _in_functional_group(path: Path, tag: str) -> str:
    """The value of an attribute in the functional groups of an enhanced image with one frame."""

    def encoded(name: str) -> bytes:
        return re.escape(struct.pack("<HH", *(int(part, 16) for part in name.split("|"))))

    value = rb"(?:DS..|....)([-+.0-9eE \\]+)"
    found = re.search(encoded(IN_GROUPS[tag]) + rb".{0,%d}?" % MACRO + encoded(tag) + value, contents(path), re.DOTALL)
    return "" if found is None else found[1].decode("ascii")
