"""Bring images to the scale that a network expects, in training and inference alike.

CT slices are fitted into the network's square, which covers a minimum extent in mm; fundus photographs are resized
until their field of view is as wide as in the training photographs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch.nn import functional

from monai_r2unet.images.field_of_view import field_of_view_diameter

__all__ = [
    "FitInPlaned",
    "ScaleFieldOfViewd",
    "field_of_view_scale",
    "fit_in_plane",
    "in_plane_size",
    "in_plane_spacing",
    "place_in_square",
    "rescale",
]


def in_plane_spacing(image: torch.Tensor) -> tuple[float, float] | None:
    """Pixel size in mm of a volume (C, X, Y, Z) along X and Y; ``None`` without metadata, or for a picture."""
    if not isinstance(image, MetaTensor) or image.ndim != 4:
        return None
    columns = torch.as_tensor(image.affine)[:3, :2].norm(dim=0)
    return float(columns[0]), float(columns[1])


def in_plane_size(
    size: int,
    shape: tuple[int, int],
    spacing: tuple[float, float] | None = None,
    min_extent: float | None = None,
) -> tuple[int, int]:
    """Size (X, Y) in pixels of an image of ``shape`` whose longer side is fitted to ``size`` pixels, or to a part of
    them.

    The aspect ratio is that of the anatomy, not of the array: 256 x 80 pixels of 1 x 3 mm become nearly square.

    Args:
        size: Side of the square in pixels.
        shape: Size (X, Y) of the image in pixels.
        spacing: Pixel size in mm; ``None`` for square pixels of unknown size.
        min_extent: Minimum extent of the square in mm. An image with a shorter longer side fills only part of it, so
            that a narrow field of view is not magnified. If it is ``None`` or the spacing unknown, the image fills it.
    """
    extent = [n * abs(s) for n, s in zip(shape, spacing or (1.0, 1.0), strict=True)]
    if spacing is None or not all(np.isfinite(extent)) or min(extent) <= 0:
        extent, min_extent = [float(n) for n in shape], None
    shown = max(*extent, min_extent or 0.0)
    # Halves are rounded up, with a tolerance for float32: the last bits of a spacing must not decide.
    x, y = (max(1, int(size * side / shown + 0.501)) for side in extent)
    return x, y


def place_in_square(size: int, fitted: tuple[int, int], beyond: tuple[float, float] | None) -> tuple[slice, slice]:
    """The region (X, Y) of the square that an image of ``fitted`` pixels fills: in the corner or in the middle."""
    first = [0 if beyond is None else (size - n) // 2 for n in fitted]
    return slice(first[0], first[0] + fitted[0]), slice(first[1], first[1] + fitted[1])


def fit_in_plane(
    slices: torch.Tensor, size: int, fitted: tuple[int, int], mode: str, beyond: tuple[float, float] | None = None
) -> torch.Tensor:
    """Resize ``slices`` (N, C, X, Y) to ``fitted`` and pad them to (N, C, size, size).

    Without ``beyond``, zeros pad the far sides. With it, images are centred and extended beyond their edges: with air
    (0) if the edge is air, with soft tissue if the edge cuts the body. A lung that is cut off by the edge thus stays
    enclosed; with air beside it, it would look like air outside the body.

    Args:
        slices: Floating-point images or masks.
        size: Side of the square result in pixels.
        fitted: Result of :func:`in_plane_size`.
        mode: ``"image"``: averages when shrinking, interpolates when enlarging; ``"mask"``: nearest neighbour, padded
            with zeros.
        beyond: Two image values: an edge below the first counts as air; the second is soft tissue.
    """
    if slices.shape[-2:] != fitted:
        if mode == "mask":
            slices = functional.interpolate(slices, fitted, mode="nearest-exact")
        elif fitted[0] <= slices.shape[-2] and fitted[1] <= slices.shape[-1]:
            slices = functional.interpolate(slices, fitted, mode="area")
        else:
            slices = functional.interpolate(slices, fitted, mode="bilinear", antialias=True)
    if fitted == (size, size):
        return slices
    x, y = place_in_square(size, fitted, beyond)
    padding = (y.start, size - y.stop, x.start, size - x.stop)
    if beyond is None or mode == "mask":
        return functional.pad(slices, padding)
    air, tissue = beyond
    edges = functional.avg_pool2d(functional.pad(slices, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    square = (functional.pad(edges, padding, mode="replicate") >= air) * tissue
    square[..., x, y] = slices
    return square


class FitInPlaned(MapTransform):
    """Fit volumes (C, X, Y, Z) in their first two axes, or pictures (C, X, Y), into ``size`` x ``size``.

    Fits like :class:`~monai_r2unet.inference.inferers.SliceBySliceInferer`, so that a network is trained on what it
    will see in use. Not invertible: for training and validation on slices, not for inference.

    Args:
        keys: Keys of the images and masks.
        size: Side of the square slices in pixels.
        mode: ``"image"`` or ``"mask"``, one for each key.
        min_extent: Minimum extent of the square in mm, see :func:`in_plane_size`. Pictures, and tensors without
            metadata, fill it.
        beyond: How images are padded, see :func:`fit_in_plane`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        mode: list[str],
        min_extent: float | None = None,
        beyond: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(keys)
        self.size = size
        self.mode = mode
        self.min_extent = min_extent
        self.beyond = beyond

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each of ``keys`` by the fitted image, float32, without metadata."""
        fitted_data = dict(data)
        for key, mode in zip(self.keys, self.mode, strict=True):
            volume = data[key]
            plain = volume.as_tensor() if isinstance(volume, MetaTensor) else torch.as_tensor(volume)
            slices = plain.float()[None] if plain.ndim == 3 else plain.float().permute(3, 0, 1, 2)
            shape = (slices.shape[-2], slices.shape[-1])
            fitted = in_plane_size(self.size, shape, in_plane_spacing(volume), self.min_extent)
            slices = fit_in_plane(slices, self.size, fitted, mode, self.beyond)
            fitted_data[key] = slices[0] if plain.ndim == 3 else slices.permute(1, 2, 3, 0).contiguous()
        return fitted_data


# Photographs this close to the network's scale stay unchanged: resampling would cost more than the difference.
TOLERANCE = 0.1


def field_of_view_scale(photograph: torch.Tensor, diameter: float) -> float | None:
    """Find the factor that makes the field of view of a fundus photograph ``diameter`` pixels wide.

    Args:
        photograph: Photograph (C, X, Y), red first.
        diameter: Field-of-view diameter in pixels on which the network was trained.

    Returns:
        The factor, 1 within `TOLERANCE` of it, or ``None`` if the photograph has no dark surround.
    """
    found = field_of_view_diameter(photograph[0].detach().cpu().numpy())
    if found is None:
        return None
    factor = diameter / found
    return 1.0 if abs(factor - 1) <= TOLERANCE else factor


def rescale(images: torch.Tensor, factor: float, mode: str) -> torch.Tensor:
    """Resize images (N, C, X, Y) by ``factor``, with anti-aliasing when shrinking.

    Args:
        images: Images or masks of any type.
        factor: Scale factor; 1 leaves the images unchanged.
        mode: ``"image"`` or ``"mask"`` (nearest neighbour).

    Returns:
        The resized images, float32.
    """
    if factor == 1:
        return images
    x, y = (max(1, round(n * factor)) for n in images.shape[-2:])
    # Row by row, as files store photographs: a large one is rearranged three times as fast, before it is float.
    rows = images.mT.contiguous().float()
    if mode == "mask":
        return functional.interpolate(rows, (y, x), mode="nearest-exact").mT
    return functional.interpolate(rows, (y, x), mode="bilinear", antialias=True).mT


class ScaleFieldOfViewd(MapTransform):
    """Resize fundus photographs (C, X, Y) until their field of view is ``diameter`` pixels wide.

    Scales like :class:`~monai_r2unet.inference.inferers.SliceBySliceInferer` with a ``fov_diameter``, so that a network
    is trained on what it will see in use. Photographs without a dark surround stay unchanged. Not invertible: for
    training and validation, not for inference.

    Args:
        keys: Keys of the images and masks.
        diameter: Width of the field of view in pixels; ``None`` leaves every photograph unchanged.
        mode: ``"image"`` or ``"mask"``, one for each key.
        image_key: Key of the photograph in which the field of view is found.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        diameter: float | None,
        mode: list[str],
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.diameter = diameter
        self.mode = mode
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each of ``keys`` by the resized image, float32; photographs already at this scale stay unchanged."""
        scaled = dict(data)
        photograph = data[self.image_key]
        factor = None if self.diameter is None else field_of_view_scale(torch.as_tensor(photograph), self.diameter)
        if factor is None or factor == 1:
            return scaled
        for key, mode in self.key_iterator(scaled, self.mode):
            scaled[key] = rescale(torch.as_tensor(data[key])[None], factor, mode)[0].contiguous()
        return scaled
