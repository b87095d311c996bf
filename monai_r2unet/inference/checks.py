"""Checks of an image before it is segmented: some errors, and warnings of implausible input."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.slices import UP, axial_axis

__all__ = [
    "check_channels",
    "check_dimension",
    "check_finite",
    "check_pixels",
    "check_slices",
    "implausible_values",
    "scale_by_hand",
    "tilted_slices",
    "unfamiliar_field_of_view",
    "unfamiliar_scale",
]

# Four poolings of the smallest kind of network need this many pixels; thinner slices show no anatomy anyway.
MINIMUM_SIDE = 16
MAXIMUM_SIDE = 16384
MAXIMUM_TILT = 20.0  # degrees
MAXIMUM_ENLARGEMENT = 1.25  # of a photograph, beyond which it lacks detail that the network was trained on


def check_channels(components: int, image_format: dict[str, Any], bundle: str) -> None:
    """Refuse an RGB photograph if the bundle takes one channel, and vice versa.

    Args:
        components: Number of values per voxel of the image.
        image_format: The image's format in the bundle's metadata.
        bundle: The bundle's name.

    Raises:
        InputError: if the numbers differ.
    """
    expected = int(image_format["num_channels"])
    if components != expected:
        kinds = {1: "one value per voxel, as CT has", 3: "three, as an RGB photograph has"}
        raise InputError(
            f"the image has {components} value{'s' if components != 1 else ''} per voxel, but the bundle {bundle!r} "
            f"takes {kinds.get(expected, expected)} ({image_format.get('modality', 'unknown modality')}); "
            "choose another bundle or image"
        )


def check_dimension(dimension: int, image_format: dict[str, Any], bundle: str) -> None:
    """Refuse a 2D picture if the bundle takes volumes in Hounsfield units, which PNG, JPEG and TIFF do not store.

    Args:
        dimension: The image's number of dimensions.
        image_format: The image's format in the bundle's metadata.
        bundle: The bundle's name.

    Raises:
        InputError: if the image is 2D, or has more than three dimensions.
    """
    if dimension > 3:
        raise InputError(f"the image has {dimension} dimensions, expected one volume: give each volume on its own")
    if dimension != 3 and image_format.get("format") == "hounsfield":
        raise InputError(
            f"the image is a {dimension}D picture without millimetres and Hounsfield units, but the bundle {bundle!r} "
            "takes volumes; give the CT itself, as DICOM or NIfTI (a single slice will do)"
        )


def check_finite(image: sitk.Image, allowed: int, fill: float) -> tuple[sitk.Image, int]:
    """Refuse NaN and infinite voxels, or replace up to ``allowed`` of them.

    Args:
        image: Any scalar or vector image.
        allowed: Largest number that is accepted.
        fill: Value that replaces them.

    Returns:
        The image, filled if necessary, and the number of voxels that were not finite.

    Raises:
        InputError: if there are more than ``allowed``.
    """
    if image.GetPixelID() not in _FLOATS:
        return image, 0
    values = sitk.GetArrayViewFromImage(image)
    finite = np.isfinite(values)
    count = int(finite.size - np.count_nonzero(finite))
    if count == 0:
        return image, 0
    if count > allowed:
        raise InputError(
            f"the image has {count} voxels that are NaN or infinite: repair it",
            remedy=f"read them as {fill:g}",
            option="allow_nonfinite",
            value=count,
        )
    filled = sitk.GetImageFromArray(
        np.where(finite, values, np.float32(fill)), isVector=image.GetNumberOfComponentsPerPixel() > 1
    )
    filled.CopyInformation(image)
    return filled, count


def check_pixels(image: sitk.Image) -> None:
    """Refuse complex numbers and ITK's label maps.

    Raises:
        InputError: if the pixels are neither integers nor floating-point numbers.
    """
    if image.GetPixelID() not in _NUMBERS:
        raise InputError(
            f"the image has pixels of type {image.GetPixelIDTypeAsString()}, expected integers or floating-point "
            "numbers: convert it first"
        )


def check_slices(shape: tuple[int, ...]) -> None:
    """Refuse volumes whose axial slices are too thin.

    Args:
        shape: (X, Y, Z) with the axial slices along Z.

    Raises:
        InputError: if X or Y is below 16.
    """
    if min(shape[:2]) < MINIMUM_SIDE:
        raise InputError(
            f"axial slices of {shape[0]} x {shape[1]} voxels are too thin to segment; this works slice by axial slice "
            f"and needs at least {MINIMUM_SIDE} x {MINIMUM_SIDE}"
        )


def implausible_values(image: sitk.Image, image_format: dict[str, Any]) -> str | None:
    """A warning, with what they probably are, if the values cannot be what the bundle expects; otherwise ``None``.

    The image of a body in air has values below -300 HU and above 0 HU, and CT scanners store -4096 to 32767.
    Photographs have 0 to 255.


    Args:
        image: Scalar or vector image.
        image_format: The image's format in the bundle's metadata.
    """
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(values.max())
    if image_format.get("format") == "rgb" and not (low >= 0 and 1 < high <= 255) and low != high:
        return (
            f"the values, {low:g} to {high:g}, cannot be those of a photograph (0 to 255); the result cannot be "
            "trusted: bring them to that range"
        )
    if image_format.get("format") != "hounsfield":
        return None
    if low <= -300 and high >= 0 and low >= -5000 and high <= 40000:
        return None
    if low >= -1 and high <= 1:
        probably = "they are probably scaled to that range, so give the CT before scaling"
    elif low >= 0 and high <= 255:
        probably = "they are probably grey values of a picture, so give the CT itself"
    elif low >= 0 and high <= 8191:
        probably = "they are probably HU + 1024, as of CT that lost its rescale intercept, so subtract 1024"
    else:
        probably = "check the rescale slope and intercept, or whether this is CT at all"
    return (
        f"the values, {low:g} to {high:g}, cannot be Hounsfield units of a body (air is -1000, water 0); "
        f"the result cannot be trusted: {probably}"
    )


def tilted_slices(image: sitk.Image) -> str | None:
    """A warning if the slices are tilted against the axial plane; otherwise ``None``.

    Nothing is resampled: a volume is cut along whichever of its axes is nearest to the long axis of the body, see
    :func:`~monai_r2unet.images.slices.axial_axis`. A rotation within the slices does not tilt them.

    Args:
        image: A volume, or a picture, which has no tilt.
    """
    if image.GetDimension() != 3:
        return None
    across = np.reshape(image.GetDirection(), (3, 3))[:, axial_axis(image)]
    tilt = float(np.degrees(np.arccos(np.abs(across[UP]).clip(0, 1))))
    if tilt <= MAXIMUM_TILT:
        return None
    return (
        f"the slices of the volume that are nearest to axial are tilted by {tilt:.0f} degrees, and the network was "
        "trained on axial slices only; the result cannot be trusted: resample the volume along the axes of the body"
    )


def unfamiliar_scale(image: sitk.Image, image_format: dict[str, Any]) -> str | None:
    """A warning if slices are wider, narrower or coarser than those the bundle was tested on; otherwise ``None``.

    Args:
        image: A volume; its axial slices are checked.
        image_format: The image's format in the bundle's metadata: ``scale`` with
            ``tested_extent_mm`` (least and greatest longer
            side of a slice) and ``tested_pixel_mm`` (coarsest pixel); without them there is no warning.
    """
    scale = image_format.get("scale", {})
    if image.GetDimension() != 3 or "tested_extent_mm" not in scale:
        return None
    in_plane = [axis for axis in range(3) if axis != axial_axis(image)]
    pixel = max(image.GetSpacing()[axis] for axis in in_plane)
    extent = max(image.GetSize()[axis] * image.GetSpacing()[axis] for axis in in_plane)
    least, greatest = scale["tested_extent_mm"]
    if pixel > scale["tested_pixel_mm"]:
        return (
            f"the pixels of the slices are {pixel:.3g} mm wide, and the bundle was tested up to "
            f"{scale['tested_pixel_mm']:g} mm; check the voxel size, and expect coarse borders"
        )
    if not least <= extent <= greatest:
        return (
            f"the slices are {extent:.3g} mm wide, and the bundle was tested from {least:g} to {greatest:g} mm; "
            "check the voxel size and the result"
        )
    return None


def scale_by_hand(scale: float | str, shape: tuple[int, ...], diameter: float) -> float:
    """The resizing factor of a photograph whose scale the user gives.

    Args:
        scale: A factor (0.5, "0.5") or the diameter of the field of view in the photograph's pixels ("1400px").
        shape: The photograph's size (X, Y) in pixels.
        diameter: Diameter in pixels of the field of view in the training data.

    Raises:
        InputError: if it is neither, or the resized photograph has a side below 16 or above 16,384 pixels.
    """
    text = str(scale).strip()
    try:
        factor = diameter / float(text[:-2]) if text.endswith("px") else float(text)
    except (ValueError, ZeroDivisionError):
        factor = float("nan")
    if not np.isfinite(factor) or factor <= 0:
        raise InputError(
            f"the scale is {scale!r}, expected a factor such as 0.5, or the diameter of the field of view in pixels, "
            "such as 1400px"
        )
    sides = [round(side * factor) for side in shape]
    if min(sides) < MINIMUM_SIDE or max(sides) > MAXIMUM_SIDE:
        raise InputError(
            f"with a scale of {scale} the network would see {sides[0]} x {sides[1]} pixels, expected {MINIMUM_SIDE} to "
            f"{MAXIMUM_SIDE} a side; it was trained on fields of view that are {diameter:g} pixels wide"
        )
    return factor


def unfamiliar_field_of_view(factor: float | None, diameter: float) -> str | None:
    """A warning if a fundus photograph cannot be resized to the scale of the training data; otherwise ``None``.

    Args:
        factor: Resizing factor of the photograph; ``None`` if its field of view was not found.
        diameter: Diameter in pixels of the field of view in the training data.
    """
    if factor is None:
        return (
            "no dark surround was found around the photograph, so it was taken at its own size, as one whose field of "
            f"view is {diameter:g} pixels wide; if it is not, give the scale: a factor, or the diameter of the field "
            "of view in pixels, such as 1400px"
        )
    if factor > MAXIMUM_ENLARGEMENT:
        return (
            f"the field of view is {diameter / factor:.0f} pixels wide, and the network was trained on {diameter:g}; "
            "the photograph was enlarged, and what is too fine for its pixels may be missed"
        )
    return None


_NUMBERS = tuple(
    getattr(sitk, f"sitk{kind}{name}{bits}")
    for kind in ("", "Vector")
    for name, sizes in (("UInt", (8, 16, 32, 64)), ("Int", (8, 16, 32, 64)), ("Float", (32, 64)))
    for bits in sizes
)
_FLOATS = (sitk.sitkFloat32, sitk.sitkFloat64, sitk.sitkVectorFloat32, sitk.sitkVectorFloat64)
