"""Postprocessing of a volume's mask in a bundle: remove what is not lung, and separate the right lung from the left."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from monai_r2unet.images.components import Labels, beside_body, remove_islands
from monai_r2unet.images.sides import sides_of

__all__ = ["RemoveBesideBodyd", "RemoveIslands", "RemoveIslandsd", "SplitSidesd"]


class RemoveIslands(Transform):
    """Remove the small connected parts of a volume's mask; see :func:`monai_r2unet.images.components.remove_islands`.

    MONAI's ``KeepLargestConnectedComponent`` would remove a lung that consolidation or the edge of the scan has cut in
    two, and neither it nor ``RemoveSmallObjects`` gives a patch of one lung back to the lung around it.

    A single slice is left as it is, because it does not show whether a part is an island.

    Args:
        least_share: Smallest size of a part that is kept, as a share of all foreground voxels, from 0 to 1.
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
        least_share: Smallest size of a part that is kept, as a share of all foreground voxels, from 0 to 1.
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


class _OnCTd(MapTransform):
    """Change masks by what the CT shows; their type and metadata stay.

    Args:
        keys: Keys of the masks, (1, X, Y, Z) in LPS, 0 background.
        image_key: Key of the CT in HU, a MetaTensor (1, X, Y, Z) on the same grid.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(self, keys: KeysCollection, image_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change each of ``keys``."""
        changed = dict(data)
        image = data[self.image_key]
        for key in self.key_iterator(changed):
            mask = changed[key]
            hu, labels = image[0].cpu().numpy().T, mask[0].cpu().numpy().T.astype(np.uint8)
            result = torch.from_numpy(self.labels_of(hu, labels, image.pixdim.tolist()[::-1]).T.copy())[None].to(mask)
            changed[key] = MetaTensor(result, meta=mask.meta) if isinstance(mask, MetaTensor) else result
        return changed

    @abstractmethod
    def labels_of(self, hu: npt.NDArray[Any], labels: Labels, spacing: Sequence[float]) -> Labels:
        """The new labels of arrays (Z, Y, X); spacing in mm, along (Z, Y, X)."""


class RemoveBesideBodyd(_OnCTd):
    """Remove the parts of lung masks that lie beside the body; see `monai_r2unet.images.components.beside_body`.

    A single slice is left as it is.
    """

    def labels_of(self, hu: npt.NDArray[Any], labels: Labels, spacing: Sequence[float]) -> Labels:
        """Without the parts that lie beside the body."""
        return np.where(beside_body(hu, labels, spacing), np.uint8(0), labels)


class SplitSidesd(_OnCTd):
    """Give the right lung the value 1 and the left lung 2; see :func:`monai_r2unet.images.sides.split_sides`.

    So the network can learn from masks that do not distinguish the lungs, as in most data sets. The side of a voxel is
    that of its connected part in 3D, which a single slice does not show.
    """

    def labels_of(self, hu: npt.NDArray[Any], labels: Labels, spacing: Sequence[float]) -> Labels:
        """1 in the right lung and 2 in the left."""
        return sides_of(hu, labels, spacing)
