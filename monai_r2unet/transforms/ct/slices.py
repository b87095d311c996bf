"""The base of the random transforms of CT slices, and what several of them draw with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform
from torch.nn import functional

__all__ = ["RandSliceTransform", "squared_radius"]


class RandSliceTransform(RandomizableTransform, MapTransform):
    """Base of the random transforms of an image slice and its label."""

    def __init__(self, image_key: str = "image", label_key: str = "label", prob: float = 0.1) -> None:
        MapTransform.__init__(self, [image_key, label_key])
        RandomizableTransform.__init__(self, prob)
        self.image_key = image_key
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change image and label, (1, X, Y) each, with probability ``prob``."""
        changed = dict(data)
        self.randomize(None)
        if self._do_transform:
            image, label = torch.as_tensor(data[self.image_key]), torch.as_tensor(data[self.label_key])
            changed[self.image_key], changed[self.label_key] = self.apply(image, label)
        return changed

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the changed pair."""
        raise NotImplementedError

    def grid(self, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixel coordinates from -1 to 1 along x and y."""
        x, y = torch.meshgrid(torch.linspace(-1, 1, shape[-2]), torch.linspace(-1, 1, shape[-1]), indexing="ij")
        return x, y

    def noise(self, shape: torch.Size) -> torch.Tensor:
        """White noise of unit variance, (X, Y)."""
        return torch.from_numpy(self.R.standard_normal((shape[-2], shape[-1]))).float()

    def smooth_field(self, shape: torch.Size, cells: int) -> torch.Tensor:
        """Noise of unit variance that is smooth over 1/``cells`` of the image, (X, Y)."""
        coarse = torch.from_numpy(self.R.standard_normal((1, 1, cells, cells))).float()
        return functional.interpolate(coarse, (shape[-2], shape[-1]), mode="bicubic", align_corners=True)[0, 0]


def squared_radius(across: torch.Tensor, down: torch.Tensor, radii: tuple[float, float], tilt: float) -> torch.Tensor:
    """Squared distance from the centre of an ellipse, in units of its radii: 1 on its edge.

    Args:
        across: Offset of each pixel from the centre along x, in the unit of the radii.
        down: Offset of each pixel from the centre along y.
        radii: Radii of the ellipse along its two axes.
        tilt: Angle in radians from x to the first axis.
    """
    along = across * np.cos(tilt) + down * np.sin(tilt)
    beside = down * np.cos(tilt) - across * np.sin(tilt)
    squared: torch.Tensor = (along / radii[0]) ** 2 + (beside / radii[1]) ** 2
    return squared
