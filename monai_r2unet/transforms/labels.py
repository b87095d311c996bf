"""Masks as they are read, checked and brought to the values that a network is trained with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.misc import ImageMetaKey

from monai_r2unet.images.label_values import checked_labels, grey_of

__all__ = ["LabelValuesd"]


class LabelValuesd(MapTransform):
    """Give masks the values 0 to ``labels``, float32; refuse masks that would merge or lose labels.

    In place of ``AsDiscreted``, which treats any value above a threshold as the one label. See
    `monai_r2unet.images.label_values.checked_labels`.

    Args:
        keys: Keys of the masks (C, X, Y[, Z]); several channels must be equal, as of a grey picture saved as RGB.
        labels: Number of labels; 1: foreground is 1, whatever its value was.
        as_one: Treat all of them as one label, 1, once they are checked.
        allow_missing_keys: Skip missing keys.
    """

    def __init__(
        self, keys: KeysCollection, labels: int = 1, as_one: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = labels
        self.as_one = as_one

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each of ``keys`` by the mask (1, X, Y[, Z]).

        Raises:
            InputError: it is not a mask, or has other labels.
        """
        checked = dict(data)
        for key in self.key_iterator(checked):
            mask = data[key]
            where = key
            if isinstance(mask, MetaTensor):
                where = mask.meta.get(ImageMetaKey.FILENAME_OR_OBJ, key)
            array = torch.as_tensor(mask).as_subclass(torch.Tensor).cpu().numpy()
            values = array[0] if len(array) == 1 else grey_of(array.transpose(*range(1, array.ndim), 0), where)
            result = torch.from_numpy(checked_labels(values, self.labels, where))[None].float()
            if self.as_one:
                result = result.clamp_max(1)
            if isinstance(mask, MetaTensor):
                result = MetaTensor(result, meta=mask.meta, applied_operations=mask.applied_operations)
            checked[key] = result
        return checked
