"""Random changes of photographs, of a whole batch at once on its device, each picture in its own way.

MONAI's random transforms work picture by picture on the CPU, which takes longer than a network of a million parameters
takes for a small patch.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

__all__ = ["RandomGeometry", "RandomIntensity"]


def _uniform(count: int, limit: float, generator: torch.Generator) -> torch.Tensor:
    """``count`` random numbers from -limit to limit."""
    return (2 * torch.rand(count, generator=generator, device=generator.device) - 1) * limit


class RandomGeometry:
    """Mirror, turn, scale, stretch and shift the points at which patches are sampled.

    Mirroring and quarter turns alone keep every pixel as it is; the rest interpolates.

    Args:
        mirror: mirror half of the patches.
        quarter_turns: turn by a random multiple of 90 degrees.
        prob: share of the patches that are turned, scaled, stretched and shifted as well.
        rotate: by up to this angle in radians.
        scale: by a factor of up to 1 + scale, larger or smaller.
        stretch: one axis against the other by a factor of up to 1 + stretch.
        shift: by up to this share of the patch along each axis.
    """

    def __init__(
        self,
        mirror: bool = True,
        quarter_turns: bool = True,
        prob: float = 0.5,
        rotate: float = 0.0,
        scale: float = 0.0,
        stretch: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        self.mirror = mirror
        self.quarter_turns = quarter_turns
        self.prob = prob
        self.rotate = rotate
        self.scale = scale
        self.stretch = stretch
        self.shift = shift

    def __call__(self, grid: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change points.

        Args:
            grid: (N, S, S, 2), in pixels from the centre of the patch.
            generator: on the same device.
        """
        count, size, device = len(grid), grid.shape[1], grid.device
        changed = (torch.rand(count, generator=generator, device=device) < self.prob).float()
        angle = changed * _uniform(count, self.rotate, generator)
        zoom = torch.exp(changed * _uniform(count, math.log1p(self.scale), generator))
        ratio = torch.exp(changed * _uniform(count, math.log1p(self.stretch) / 2, generator))
        shift = changed[:, None] * _uniform(2 * count, self.shift * size, generator).view(count, 2)
        turns = torch.randint(4, (count,), generator=generator, device=device) * int(self.quarter_turns)
        mirrored = torch.rand(count, generator=generator, device=device) < (0.5 if self.mirror else 0.0)
        # Whole numbers as cosine and sine of the quarter turns, so that pixels stay pixels.
        cosine, sine = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]], device=device)[:, turns]
        cosine, sine = (
            cosine * angle.cos() - sine * angle.sin(),
            sine * angle.cos() + cosine * angle.sin(),
        )
        across = torch.where(mirrored, -1.0, 1.0)
        matrix = torch.stack(
            [
                torch.stack([cosine * zoom * ratio * across, -sine * zoom * ratio], -1),
                torch.stack([sine * zoom / ratio * across, cosine * zoom / ratio], -1),
            ],
            -2,
        )
        return torch.einsum("nij,nxyj->nxyi", matrix, grid) + shift[:, None, None]


class RandomIntensity:
    """Change brightness, contrast, tone curve, colour balance, shading and noise of standardised photographs.

    Every strength is the largest change, in standard deviations of the photograph where it is added; each picture
    draws its own below it. 0 leaves that property alone.

    Args:
        brightness: added to all channels.
        contrast: the values are multiplied by up to 1 + contrast or 1 / (1 + contrast).
        tone: bends the tone curve, as a gamma does: ``tone * (value^2 - 1) / 2`` is added within two standard
            deviations.
        colour: added to each channel on its own.
        shading: a smooth field added over the picture, as uneven light gives.
        noise: standard deviation of white noise.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        tone: float = 0.0,
        colour: float = 0.0,
        shading: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.tone = tone
        self.colour = colour
        self.shading = shading
        self.noise = noise

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change images (N, C, X, Y), float32; ``generator`` is on the same device."""
        count, channels = images.shape[:2]

        def draw(limit: float) -> torch.Tensor:
            return _uniform(count, limit, generator).view(count, 1, 1, 1)

        if self.tone:
            images = images + draw(self.tone) * (images.clamp(-2, 2) ** 2 - 1) / 2
        images = images * draw(math.log1p(self.contrast)).exp() + draw(self.brightness)
        if self.colour:
            images = images + _uniform(count * channels, self.colour, generator).view(count, channels, 1, 1)
        if self.shading:
            coarse = _uniform(count * 9, 1.0, generator).view(count, 1, 3, 3)
            field = functional.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True)
            images = images + draw(self.shading) * field.clamp(-1, 1)  # bicubic curves overshoot
        if self.noise:
            white = torch.randn(images.shape, generator=generator, device=images.device)
            images = images + draw(self.noise).abs() * white
        return images
