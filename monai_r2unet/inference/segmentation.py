"""What came of one image: its mask, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk

__all__ = ["Segmentation"]


@dataclass(frozen=True)
class Segmentation:
    """What came of one image, on its own grid.

    Args:
        mask: uint8, 0 background, 1 and up the bundle's labels.
        probabilities: foreground probability, float32 from 0 to 1, where it was asked for; with several labels a
            vector image with the probability of each.
        warnings: sentences about what may make the result wrong.
        scale: factors by which the photographs were resized for the network, one for each; ``None`` for bundles that do
            not go by the field of view.
        seconds: what each step took.
        labels: names of the bundle's labels, whose values in the mask are 1, 2, ...
    """

    mask: sitk.Image
    probabilities: sitk.Image | None = None
    warnings: list[str] = field(default_factory=list)
    scale: list[float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @cached_property
    def voxels(self) -> int:
        """Number of foreground voxels."""
        return int(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)))

    @property
    def millilitres(self) -> float | None:
        """Volume of the foreground in mL; ``None`` of a flat picture, which has no millimetres."""
        return self._millilitres(self.voxels)

    @cached_property
    def by_label(self) -> list[dict[str, Any]]:
        """Each label's ``value``, ``name``, ``voxels`` and ``millilitres`` (``None`` of a flat picture)."""
        if len(self.labels) == 1:
            counts = [self.voxels]
        else:  # slice by slice: numpy counts in copies of eight bytes a voxel
            array = sitk.GetArrayViewFromImage(self.mask)
            counts = np.sum([np.bincount(one.ravel(), minlength=256) for one in array], axis=0)[1:].tolist()
        return [
            {"value": value, "name": name, "voxels": voxels, "millilitres": self._millilitres(voxels)}
            for value, (name, voxels) in enumerate(zip(self.labels, counts, strict=False), start=1)
        ]

    def _millilitres(self, voxels: int) -> float | None:
        if self.mask.GetDimension() != 3:
            return None
        return voxels * float(np.prod(self.mask.GetSpacing())) / 1000.0
