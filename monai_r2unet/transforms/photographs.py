"""Photograph transforms that MONAI lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop, Transform

__all__ = ["CropFromSized", "PlaceOnd", "Standardize"]


class CropFromSized(MapTransform):
    """Crop photographs of one size and leave all others unchanged.

    For a data set whose published resolution covers only part of the original, such as 565 x 565 of 565 x 584 pixels in
    DRIVE: photographs from elsewhere are not cropped.

    Args:
        keys: Keys of the images and masks, (C, X, Y).
        size: Size (X, Y) in pixels of the photographs to crop.
        roi_start: First pixel to keep, (X, Y).
        roi_end: First pixel after the kept region, (X, Y).
        allow_missing_keys: Skip missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        roi_start: Sequence[int],
        roi_end: Sequence[int],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = tuple(size)
        self.crop = SpatialCrop(roi_start=roi_start, roi_end=roi_end)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop each of ``keys``."""
        cropped = dict(data)
        for key in self.key_iterator(cropped):
            if tuple(cropped[key].shape[1:]) == self.size:
                cropped[key] = self.crop(cropped[key])
        return cropped


class PlaceOnd(MapTransform):
    """Give masks and probabilities the grid and the file name of their source image.

    For images that no invertible transform changed; otherwise MONAI's ``Invertd`` does it.

    Args:
        keys: Keys of the tensors on the image's grid.
        image_key: Key of the image, a MetaTensor.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each of ``keys`` by a MetaTensor with the image's metadata."""
        placed = dict(data)
        for key in self.keys:
            placed[key] = MetaTensor(torch.as_tensor(data[key]), meta=deepcopy(data[self.image_key].meta))
        return placed


class Standardize(Transform):
    """Standardise each channel of a photograph to mean 0 and standard deviation 1, at any brightness and bit depth.

    Args:
        lit_only: Take mean and standard deviation only where the photograph is lit: where the maximum over the
            channels exceeds half of its mean. In a fundus photograph this is the field of view, so the width of the
            black surround does not matter; in a dermoscopic image it would exclude dark lesions.
    """

    def __init__(self, lit_only: bool = False) -> None:
        self.lit_only = lit_only

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Standardise one image (C, X, Y) or each image of a batch (N, C, X, Y): float32, in the same shape."""
        images = torch.as_tensor(images).float()
        weight = torch.ones_like(images[..., :1, :, :])
        if self.lit_only:
            brightness = images.amax(-3, keepdim=True)
            weight = (brightness > brightness.mean((-2, -1), keepdim=True) / 2).float()
        count = weight.sum((-2, -1), keepdim=True).clamp_min(1)
        centred = images - (images * weight).sum((-2, -1), keepdim=True) / count
        deviation = ((centred**2 * weight).sum((-2, -1), keepdim=True) / count).sqrt()
        return centred / torch.where(deviation > 0, deviation, 1)
