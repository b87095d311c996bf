"""Mirror images of anatomy with a right and a left side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Flip, MapTransform, RandomizableTransform

__all__ = ["RandMirrord"]


class RandMirrord(RandomizableTransform, MapTransform):
    """Mirror images and masks from right to left; in a mirror image, a right lung is a left one.

    Args:
        keys: Keys of the images and masks, (C, X, Y[, Z]).
        label_key: Key of the mask whose labels are exchanged.
        exchanged: Pairs of labels that change places, such as ``[[1, 2]]``.
        prob: Probability of the mirror image.
        spatial_axis: Axis from right to left.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        exchanged: Sequence[Sequence[int]],
        prob: float = 0.5,
        spatial_axis: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.label_key = label_key
        self.exchanged = exchanged
        self.flip = Flip(spatial_axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mirror each of ``keys``, or none."""
        mirrored = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(mirrored):
                mirrored[key] = self.flip(mirrored[key])
                if key == self.label_key:
                    mirrored[key] = self._exchange(mirrored[key])
        return mirrored

    def _exchange(self, labels: torch.Tensor) -> torch.Tensor:
        found = labels.clone()
        for one, other in self.exchanged:
            found[labels == one], found[labels == other] = other, one
        return found
