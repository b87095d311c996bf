"""Conversion of the in-memory images that a `Segmenter` takes to SimpleITK, and of its results back."""

from __future__ import annotations

import os
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys

from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import unlikely_size
from monai_r2unet.images.reading import read_image
from monai_r2unet.transforms.metatensor import to_metatensor

__all__ = ["as_kind_of", "as_sitk"]

# Spacing, origin and direction of a volume to which nobody gave any.
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def as_sitk(image: Any, channels: int, spacing: tuple[float, float, float] | None = None) -> sitk.Image:
    """Convert the caller's image to SimpleITK.

    Args:
        image: Path; SimpleITK image; MetaTensor (X, Y, Z[, C]) or (X, Y, C); or array: a volume (X, Y, Z[, C]) in LPS
            axial order with ``spacing``, or a picture (rows, columns, C). C only if ``channels`` is above 1.
        channels: Number of channels of the bundle's images.
        spacing: Spacing of an array's volume in mm, order (x, y, z).

    Raises:
        InputError: if the image is of another kind or cannot be read.
    """
    if spacing is not None and isinstance(image, str | os.PathLike | sitk.Image | MetaTensor):
        raise InputError(f"a spacing is for arrays, but a {type(image).__name__} states its own: leave it out")
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, sitk.Image):
        converted = image
    elif isinstance(image, MetaTensor):
        converted = _of_metatensor(image, channels)
    elif isinstance(image, np.ndarray):
        converted = _of_array(image, channels, spacing)
    else:
        raise InputError(
            f"cannot segment a {type(image).__name__}; give a path, a SimpleITK image, a MetaTensor, or an array with "
            "spacing"
        )
    if 0 in converted.GetSize():
        raise InputError(f"the image has {' x '.join(map(str, converted.GetSize()))} voxels; it must have some")
    doubt = unlikely_size(converted) or (_default_geometry(converted) if spacing is None else None)
    if doubt is not None:
        warnings.warn(doubt, UserWarning, stacklevel=3)
    return converted


def as_kind_of(result: sitk.Image, like: Any) -> Any:
    """Convert ``result`` to the kind of the caller's image ``like``; channels of tensors and arrays come first."""
    vector = result.GetNumberOfComponentsPerPixel() > 1
    if isinstance(like, MetaTensor):
        values = to_metatensor(result).as_tensor()
        return MetaTensor(values.movedim(-1, 0) if vector else values, meta=deepcopy(like.meta))
    if isinstance(like, np.ndarray):
        array = sitk.GetArrayFromImage(result)
        array = np.moveaxis(array, -1, 0) if vector else array
        return array if result.GetDimension() == 2 else np.swapaxes(array, -1, -3)
    return result


def _default_geometry(image: sitk.Image) -> str | None:
    """Why the size of a volume's voxels may be nobody's measurement; None of one with a geometry of its own."""
    scan = image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 1
    geometry = (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())
    if not scan or tuple(map(abs, geometry)) != PLAIN:  # absolute: a MetaTensor is RAS
        return None
    return (
        "the image has the grid that libraries give an array, with voxels of 1 mm and without orientation, so the "
        "result cannot be trusted if nobody measured that: set its geometry, or give the array with its spacing"
    )


def _of_array(array: npt.NDArray[Any], channels: int, spacing: tuple[float, float, float] | None = None) -> sitk.Image:
    if channels > 1 and array.ndim == 3:
        # As Pillow, scikit-image and OpenCV hold a picture; it has no millimetres.
        return _image(array.transpose(1, 0, 2), vector=True)
    if spacing is None:
        raise InputError("an array needs spacing=(x, y, z) in mm, because it carries no geometry of its own")
    try:
        sizes = [float(size) for size in spacing]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) != 3 or not all(0 < size < float("inf") for size in sizes):
        raise InputError(f"spacing is {spacing}; it must be three positive numbers (x, y, z) in mm")
    if array.ndim != (3 if channels == 1 else 4):
        axes = "(X, Y, Z) without channel axis" if channels == 1 else f"(X, Y, Z, {channels})"
        raise InputError(f"the array has shape {array.shape}; it must be one volume {axes}")
    converted = _image(array, vector=channels > 1)
    converted.SetSpacing(sizes)
    return converted


def _of_metatensor(image: MetaTensor, channels: int) -> sitk.Image:
    """Convert a MetaTensor, whose affine is RAS unless its metadata say otherwise."""
    dimensions = image.ndim - (channels > 1)
    if dimensions != 3 and not (dimensions == 2 and channels > 1):
        axes = "(X, Y, Z) without channel axis" if channels == 1 else f"(X, Y, Z, {channels}) or (X, Y, {channels})"
        raise InputError(f"the MetaTensor has shape {tuple(image.shape)}; it must be one image {axes}")
    values = image.detach().as_tensor().cpu()
    converted = _image((values.float() if values.is_floating_point() else values).numpy(), vector=channels > 1)
    if dimensions == 2:
        return converted
    affine = np.asarray(torch.as_tensor(image.affine), dtype=np.float64)
    if image.meta.get(MetaKeys.SPACE) != SpaceKeys.LPS:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and spacing.all() and abs(np.linalg.det(affine[:3, :3] / spacing)) > 0.99):
        raise InputError(f"the affine {affine.tolist()} is sheared or singular; it must be that of a rectangular grid")
    converted.SetSpacing(spacing.tolist())
    converted.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    converted.SetOrigin(affine[:3, 3].tolist())
    return converted


def _image(array: npt.NDArray[Any], vector: bool) -> sitk.Image:
    """A SimpleITK image of an array (X, Y[, Z]), with channels behind them if it is a ``vector``."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"the image has values of type {array.dtype}, expected integers or floating-point numbers")
    if array.dtype.kind == "b" or array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:  # more than double precision
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    last = array.ndim - 1 - vector
    return sitk.GetImageFromArray(np.ascontiguousarray(np.swapaxes(array, 0, last)), isVector=vector)
