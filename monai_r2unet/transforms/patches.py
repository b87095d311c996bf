"""Random changes of photographs: a whole batch at once on its device, each picture independently.

MONAI's random transforms run picture by picture on the CPU, which takes longer on small patches than a network with a
million parameters.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

__all__ = ["RandomGeometry", "RandomIntensity"]


def _uniform(count: int, limit: float, generator: torch.Generator) -> torch.Tensor:
    """``count`` random numbers between -limit and limit."""
    return (2 * torch.rand(count, generator=generator, device=generator.device) - 1) * limit


class RandomGeometry:
    """Mirror, turn, scale, stretch and shift the points at which patches are sampled.

    Mirroring and quarter turns alone preserve every pixel; the other changes interpolate.

    Args:
        mirror: Mirror half of the patches.
        quarter_turns: Rotate by a random multiple of 90 degrees.
        prob: Fraction of the patches that are also rotated, scaled, stretched and shifted.
        rotate: Largest rotation in radians.
        scale: Largest scaling: the factor is up to 1 + scale, larger or smaller.
        stretch: Largest stretch of one axis against the other: the factor is up to 1 + stretch.
        shift: Largest shift along each axis, as a fraction of the patch.
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
        """Transform the sampling points.

        Args:
            grid: Sampling points (N, S, S, 2), in pixels from the centre of the patch.
            generator: Random generator on the same device.
        """
        count, size, device = len(grid), grid.shape[1], grid.device
        changed = (torch.rand(count, generator=generator, device=device) < self.prob).float()
        angle = changed * _uniform(count, self.rotate, generator)
        zoom = torch.exp(changed * _uniform(count, math.log1p(self.scale), generator))
        ratio = torch.exp(changed * _uniform(count, math.log1p(self.stretch) / 2, generator))
        shift = changed[:, None] * _uniform(2 * count, self.shift * size, generator).view(count, 2)
        turns = torch.randint(4, (count,), generator=generator, device=device) * int(self.quarter_turns)
        mirrored = torch.rand(count, generator=generator, device=device) < (0.5 if self.mirror else 0.0)
        # Integers as cosine and sine of the quarter turns, so that pixels stay exact.
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

    Every strength is the largest change, in standard deviations of the photograph if it is added; each picture draws
    its own value below it. 0 leaves that property unchanged.

    Args:
        brightness: Offset added to all channels.
        contrast: Contrast change: values are multiplied by up to 1 + contrast or 1 / (1 + contrast).
        tone: Bend of the tone curve, like a gamma: ``tone * (value^2 - 1) / 2`` is added within two standard
            deviations.
        colour: Offset added to each channel separately.
        shading: A smooth field added to the picture, like uneven lighting.
        noise: Standard deviation of white noise.
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
        """Change images (N, C, X, Y), float32; ``generator`` must be on the same device."""
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
