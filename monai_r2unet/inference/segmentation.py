"""The result of segmenting one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.images.label_values import counts_of

__all__ = ["Segmentation"]


@dataclass(frozen=True)
class Segmentation:
    """The result of segmenting one image, on the image's grid.

    Args:
        mask: Mask, uint8: 0 background, 1 and up the bundle's labels.
        probabilities: Foreground probability, float32 from 0 to 1, if requested; with several labels a vector image
            with the probability of each.
        warnings: Sentences about possible errors in the result.
        scale: Resizing factor of each photograph for the network; ``None`` for bundles that ignore the field of view.
        seconds: Seconds of each step.
        labels: Names of the bundle's labels, whose values in the mask are 1, 2, ...
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
        """Volume of the foreground in mL; ``None`` for a picture, which has no millimetres."""
        return self._millilitres(self.voxels)

    @cached_property
    def by_label(self) -> list[dict[str, Any]]:
        """Each label's ``value``, ``name``, ``voxels`` and ``millilitres`` (``None`` for a picture)."""
        if len(self.labels) == 1:
            counts = [self.voxels]
        else:
            counts = counts_of(sitk.GetArrayViewFromImage(self.mask))[1:].tolist()
        return [
            {"value": value, "name": name, "voxels": voxels, "millilitres": self._millilitres(voxels)}
            for value, (name, voxels) in enumerate(zip(self.labels, counts, strict=False), start=1)
        ]

    def _millilitres(self, voxels: int) -> float | None:
        if self.mask.GetDimension() != 3:
            return None
        return voxels * float(np.prod(self.mask.GetSpacing())) / 1000.0
