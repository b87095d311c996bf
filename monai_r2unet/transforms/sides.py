"""Right and left lung in the mask of a bundle that finds both as one, as a transform of its postprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_r2unet.images.sides import sides_of

__all__ = ["SplitSidesd"]


class SplitSidesd(MapTransform):
    """Give the right lung the value 1 and the left lung 2; see :func:`monai_r2unet.images.sides.split_sides`.

    So the network learns from masks that do not tell the lungs apart, which most data sets have. And the side of a
    voxel is that of the part of the lungs that it belongs to in 3D, which a slice alone does not show.

    Args:
        keys: Keys of the masks, (1, X, Y, Z) in LPS, 0 background.
        image_key: Key of the CT in HU, a MetaTensor (1, X, Y, Z) on the same grid.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(self, keys: KeysCollection, image_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Tell the sides apart in each of ``keys``; its type and metadata stay."""
        told_apart = dict(data)
        image = data[self.image_key]
        for key in self.key_iterator(told_apart):
            mask = told_apart[key]
            hu, found = image[0].cpu().numpy().T, (mask[0] != 0).cpu().numpy().T
            labels = torch.from_numpy(sides_of(hu, found, image.pixdim.tolist()[::-1]).T)[None].to(mask)
            told_apart[key] = MetaTensor(labels, meta=mask.meta) if isinstance(mask, MetaTensor) else labels
        return told_apart
