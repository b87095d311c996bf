"""Is this an image that a bundle can work on? Refuse what cannot work, warn of what cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.slices import UP, axial_axis

__all__ = ["check_channels", "check_dimension", "check_finite", "check_slices", "implausible_values", "tilted_slices"]

# Four poolings of the smallest kind of network need this many pixels; thinner slices show no anatomy anyway.
MINIMUM_SIDE = 16
MAXIMUM_TILT = 20.0  # degrees


def check_channels(components: int, image_format: dict[str, Any], bundle: str) -> None:
    """Refuse an RGB photograph where the bundle takes one channel, and the other way round.

    Args:
        components: values a voxel of the image.
        image_format: of the bundle, from its metadata.
        bundle: its name.

    Raises:
        InputError: if the numbers differ.
    """
    expected = int(image_format["num_channels"])
    if components != expected:
        kinds = {1: "one value a voxel, as CT has", 3: "three, as an RGB photograph has"}
        raise InputError(
            f"the image has {components} value{'s' if components != 1 else ''} a voxel, but the bundle {bundle!r} "
            f"takes {kinds.get(expected, expected)} ({image_format.get('modality', 'unknown modality')}); "
            "choose another bundle or image"
        )


def check_dimension(dimension: int, image_format: dict[str, Any], bundle: str) -> None:
    """Refuse a flat picture where the bundle takes volumes in Hounsfield units: PNG, JPEG and TIFF hold none.

    Args:
        dimension: of the image.
        image_format: of the bundle, from its metadata.
        bundle: its name.

    Raises:
        InputError: if the image is 2D.
    """
    if dimension != 3 and image_format.get("format") == "hounsfield":
        raise InputError(
            f"the image is a {dimension}D picture without millimetres and Hounsfield units, but the bundle {bundle!r} "
            "takes volumes; give the CT itself, as DICOM or NIfTI (a single slice will do)"
        )


def check_finite(image: sitk.Image, allowed: int, fill: float) -> tuple[sitk.Image, int]:
    """Refuse NaN and infinite voxels, or fill up to ``allowed`` of them.

    Args:
        image: any scalar or vector image.
        allowed: how many the caller accepts.
        fill: the value that takes their place.

    Returns:
        The image (filled where needed) and the number of its voxels that were not finite.

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
            f"the image has {count} voxels that are NaN or infinite; repair it, or pass --allow-nonfinite {count} to "
            f"read them as {fill:g}"
        )
    filled = sitk.GetImageFromArray(
        np.where(finite, values, np.float32(fill)), isVector=image.GetNumberOfComponentsPerPixel() > 1
    )
    filled.CopyInformation(image)
    return filled, count


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
    """Why the values cannot be what the bundle expects, or ``None``.

    Only Hounsfield units can be told: an image of a body in air reaches below -300 HU and above 0 HU, and CT scanners
    store -4096 to 32767.

    Args:
        image: scalar image.
        image_format: of the bundle, from its metadata.
    """
    if image_format.get("format") != "hounsfield":
        return None
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(values.max())
    if low <= -300 and high >= 0 and low >= -5000 and high <= 40000:
        return None
    return (
        f"the values, {low:g} to {high:g}, cannot be Hounsfield units of a body (air is -1000, water 0); "
        "the result cannot be trusted: check the rescale slope and intercept, or whether this is CT at all"
    )


def tilted_slices(image: sitk.Image) -> str | None:
    """Why the slices are not those that a network of axial slices knows, or ``None``.

    Nothing is resampled: a volume is cut along the one of its own axes that is nearest to the body's long axis, see
    :func:`~monai_r2unet.slices.axial_axis`. A rotation within the slices tilts none of them.

    Args:
        image: a picture, which has no tilt, or a volume.
    """
    if image.GetDimension() != 3:
        return None
    across = np.reshape(image.GetDirection(), (3, 3))[:, axial_axis(image)]
    tilt = float(np.degrees(np.arccos(np.abs(across[UP]).clip(0, 1))))
    if tilt <= MAXIMUM_TILT:
        return None
    return (
        f"the slices of the volume that are nearest to axial are tilted by {tilt:.0f} degrees, and the network knows "
        "axial slices only; the result cannot be trusted: resample the volume along the axes of the body"
    )


_FLOATS = (sitk.sitkFloat32, sitk.sitkFloat64, sitk.sitkVectorFloat32, sitk.sitkVectorFloat64)
