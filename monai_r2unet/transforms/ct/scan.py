"""Effects of the scanner and the surroundings on a slice: blur, denoising, cropped scans, couches, arms and
blankets."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import GaussianSmooth
from torch.nn import functional

from monai_r2unet.transforms.ct.slices import RandSliceTransform, squared_radius
from monai_r2unet.transforms.fit import fit_in_plane

__all__ = [
    "RandBlurd",
    "RandCroppedScand",
    "RandDenoised",
    "RandFieldOfViewd",
    "RandSurroundingsd",
    "distance_from_body",
]


class RandBlurd(RandSliceTransform):
    """Imitate smooth reconstruction kernels and resampled volumes: a Gaussian blur in plane.

    Args:
        image_key: Key of the image.
        label_key: Key of the mask, which stays as it is.
        prob: Probability of a change.
        sigma: Least and greatest standard deviation in pixels.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        prob: float = 0.1,
        sigma: tuple[float, float] = (0.3, 4.0),
    ) -> None:
        super().__init__(image_key, label_key, prob)
        self.sigma = sigma

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Blur by a random sigma, the same along x and y."""
        return torch.as_tensor(GaussianSmooth(float(self.R.uniform(*self.sigma)))(image)), label


class RandDenoised(RandSliceTransform):
    """Imitate iterative and deep-learning reconstruction: noise and texture vanish, edges stay (a bilateral filter).

    Source: Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images", doi:10.1109/ICCV.1998.710815.

    Args:
        image_key: Key of the image.
        label_key: Key of the mask, which stays as it is.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Filter once to three times, over neighbours within two pixels, by a tolerance of 40 to 200 HU."""
        tolerance = float(self.R.uniform(0.03, 0.14))
        denoised = image[0]
        for _ in range(self.R.randint(1, 4)):
            denoised = bilateral(denoised, reach=2, sigma=1.5, tolerance=tolerance)
        return denoised[None], label


def bilateral(image: torch.Tensor, reach: int, sigma: float, tolerance: float) -> torch.Tensor:
    """Average each pixel of ``image`` (X, Y) with near neighbours of a similar grey value.

    Args:
        image: Any range.
        reach: Neighbours along each axis and direction.
        sigma: Standard deviation of the weight by distance, in pixels.
        tolerance: Standard deviation of the weight by difference, in the image's unit.
    """
    padded = functional.pad(image[None, None], [reach] * 4, mode="replicate")[0, 0]
    total, weights = torch.zeros_like(image), torch.zeros_like(image)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            neighbour = padded[i : i + image.shape[0], j : j + image.shape[1]]
            near = ((i - reach) ** 2 + (j - reach) ** 2) / (2 * sigma**2)
            weight = torch.exp(-(((neighbour - image) / tolerance) ** 2) / 2 - near)
            total += weight * neighbour
            weights += weight
    return total / weights


class RandCroppedScand(RandSliceTransform):
    """Imitate a cropped scan: one side of the body, or a window of 40 to 100 % of the image's sides.

    What is left is padded as in use (:func:`~monai_r2unet.transforms.fit.fit_in_plane`); the label with 0.

    Args:
        image_key: Key of the image, which must be square.
        label_key: Key of the mask.
        prob: Probability of a change.
        beyond: See :func:`~monai_r2unet.transforms.fit.fit_in_plane`.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        prob: float = 0.1,
        beyond: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(image_key, label_key, prob)
        self.beyond = beyond

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a random window around a place in the body."""
        sizes = image.shape[-2:]
        places = (image[0] > 0.3).nonzero()
        if len(places) == 0:
            return image, label
        if self.R.rand() < 0.4:  # one side
            middle = int(places[:, 0].float().mean() + self.R.uniform(-0.08, 0.08) * sizes[0])
            middle = min(max(middle, 1), sizes[0] - 1)
            starts, stops = ([0, 0], [middle, sizes[1]]) if self.R.rand() < 0.5 else ([middle, 0], list(sizes))
        else:
            place = places[self.R.randint(len(places))]
            widths = [int(size * self.R.uniform(0.4, 1.0)) for size in sizes]
            starts = [
                int(min(max(int(centre) - width // 2, 0), size - width))
                for centre, width, size in zip(place, widths, sizes, strict=True)
            ]
            stops = [start + width for start, width in zip(starts, widths, strict=True)]
        window = (..., slice(starts[0], stops[0]), slice(starts[1], stops[1]))
        fitted = (stops[0] - starts[0], stops[1] - starts[1])
        kept, kept_label = (
            fit_in_plane(values[window][None], sizes[0], fitted, mode, self.beyond)[0]
            for values, mode in ((image, "image"), (label, "mask"))
        )
        return kept, kept_label


class RandFieldOfViewd(RandSliceTransform):
    """Imitate a narrow reconstruction circle: air outside it, in the label too.

    Args:
        image_key: Key of the image.
        label_key: Key of the mask.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clear everything outside a random circle."""
        x, y = self.grid(image.shape)
        centre = self.R.uniform(-0.1, 0.1, 2)
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < self.R.uniform(0.6, 1.0) ** 2
        return image * inside, label * inside


class RandSurroundingsd(RandSliceTransform):
    """Imitate objects in the air around the body: arms at the sides, couches, blankets, cushions and cables.

    Foam and cloth may be as dense as lung (down to -990 HU) and as textured; neither they nor the air below them are
    lung.

    Args:
        image_key: Key of the image.
        label_key: Key of the mask, whose pixels are never covered.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one to three objects in unlabelled air."""
        free = (image[0] < 0.05) & (label[0] == 0)
        drawn = image[0].clone()
        away: torch.Tensor | None = None
        for _ in range(self.R.randint(1, 4)):
            kind = self.R.rand()
            if kind < 0.35:
                thing = self.arm(image.shape)
            elif kind < 0.55:
                thing = self.couch(image.shape)
            else:
                away = distance_from_body(image[0]) if away is None else away
                thing = self.blanket(away) if kind < 0.8 else self.cushion(away)
            drawn = torch.where(free, torch.maximum(drawn, thing), drawn)
        return drawn[None].clamp(0, 1), label

    def blanket(self, away: torch.Tensor) -> torch.Tensor:
        """A sheet in folds at some distance from the body, all around it or in parts, with air below.

        Args:
            away: Distance of each pixel from the body in shares of the image's side, 0 within.
        """
        height = float(self.R.uniform(0.01, 0.12))
        folds = float(self.R.uniform(0.0, 0.04)) * self.smooth_field(away.shape, int(self.R.randint(4, 24)))
        sheet = (away - height - folds).abs() < float(self.R.uniform(0.003, 0.015))
        there = self.smooth_field(away.shape, int(self.R.randint(3, 8))) > float(self.R.uniform(-2.0, 0.5))
        cloth = float(self.R.uniform(0.02, 0.4)) + float(self.R.uniform(0.0, 0.04)) * self.noise(away.shape)
        return cloth * (sheet & there & (away > 0))

    def cushion(self, away: torch.Tensor) -> torch.Tensor:
        """Foam beside the body, -990 to -820 HU.

        Args:
            away: Distance of each pixel from the body in shares of the image's side, 0 within.
        """
        reach = float(self.R.uniform(0.03, 0.25))
        there = self.smooth_field(away.shape, int(self.R.randint(3, 8))) > float(self.R.uniform(-0.5, 1.0))
        foam = float(self.R.uniform(0.007, 0.13)) + float(self.R.uniform(0.0, 0.04)) * self.noise(away.shape)
        foam = foam + float(self.R.uniform(0.0, 0.02)) * self.smooth_field(away.shape, 32)
        return foam * (there & (away > 0.01) & (away < reach))

    def arm(self, shape: torch.Size) -> torch.Tensor:
        """An ellipse of soft tissue around a bone: at a side, or lying across the chest with air below it."""
        x, y = self.grid(shape)
        across = self.R.rand() < 0.4
        if across:
            cx, cy = self.R.uniform(-0.6, 0.6), -self.R.uniform(0.5, 0.9)
            rx, ry = self.R.uniform(0.2, 0.5), self.R.uniform(0.06, 0.15)
        else:
            cx, cy = (1.0 if self.R.rand() < 0.5 else -1.0) * self.R.uniform(0.75, 1.0), self.R.uniform(-0.4, 0.5)
            rx, ry = self.R.uniform(0.08, 0.2, 2)
        tilt = self.R.uniform(-0.5, 0.5) if across else 0.0
        radius = squared_radius(x - cx, y - cy, (rx, ry), tilt)
        flesh = float(self.R.uniform(0.62, 0.76)) + 0.02 * self.noise(shape)
        return torch.where(radius < 0.08, torch.ones_like(flesh), flesh) * (radius < 1)

    def couch(self, shape: torch.Size) -> torch.Tensor:
        """A thin, flat or bent sheet below (or above) the body."""
        x, y = self.grid(shape)
        height = self.R.uniform(0.45, 0.95) * (1.0 if self.R.rand() < 0.85 else -1.0)
        bend = self.R.uniform(0.0, 0.35)
        distance = (y - height + bend * x**2).abs()
        sheet: torch.Tensor = (distance < self.R.uniform(0.004, 0.03)) & (x.abs() < self.R.uniform(0.4, 1.0))
        return sheet * float(self.R.uniform(0.1, 0.9))


def distance_from_body(image: torch.Tensor) -> torch.Tensor:
    """Distance of each pixel of ``image`` (X, Y) from the body in shares of the image's side, 0 within the body."""
    coarse = functional.avg_pool2d(image[None, None], 4)[0, 0].numpy()
    body = sitk.BinaryFillhole(sitk.GetImageFromArray((coarse > 0.3).astype(np.uint8)))
    outside = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(body, squaredDistance=False, useImageSpacing=False))
    distance = torch.from_numpy(outside).float().clamp(min=0) / coarse.shape[0]
    fine = functional.interpolate(distance[None, None], tuple(image.shape), mode="bilinear", align_corners=False)
    return fine[0, 0]
