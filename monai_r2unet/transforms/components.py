"""Removal of islands from the masks of volumes, as a transform of a bundle's postprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from monai_r2unet.images.components import remove_islands

__all__ = ["RemoveIslands", "RemoveIslandsd"]


class RemoveIslands(Transform):
    """Remove the small connected parts of a volume's mask; see :func:`monai_r2unet.images.components.remove_islands`.

    MONAI's ``KeepLargestConnectedComponent`` would remove a lung that consolidation or the edge of the scan has cut in
    two, and neither it nor ``RemoveSmallObjects`` gives a patch of one lung back to the lung around it.

    A single slice is left as it is: whether a part is an island is not to be seen in it.

    Args:
        least_share: Least size of a part that is kept, as a share of all foreground voxels, from 0 to 1.
    """

    def __init__(self, least_share: float) -> None:
        self.least_share = least_share

    def __call__(self, mask: torch.Tensor) -> torch.Tensor:
        """Clean a mask (1, X, Y, Z) of whole numbers from 0 to 255; its type and metadata stay."""
        if mask.ndim != 4 or mask.shape[-1] == 1:
            return mask
        cleaned = torch.from_numpy(remove_islands(mask[0].cpu().numpy().astype(np.uint8), self.least_share))
        cleaned = cleaned[None].to(mask)
        return MetaTensor(cleaned, meta=mask.meta) if isinstance(mask, MetaTensor) else cleaned


class RemoveIslandsd(MapTransform):
    """Dictionary version of :class:`RemoveIslands`.

    Args:
        keys: Keys of the masks, (1, X, Y, Z).
        least_share: Least size of a part that is kept, as a share of all foreground voxels, from 0 to 1.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(self, keys: KeysCollection, least_share: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.remove = RemoveIslands(least_share)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean each of ``keys``."""
        cleaned = dict(data)
        for key in self.key_iterator(cleaned):
            cleaned[key] = self.remove(cleaned[key])
        return cleaned
