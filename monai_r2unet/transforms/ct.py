"""Random transforms of CT slices for training: findings that the training data lack.

Images are (1, X, Y), from 0 to 1 over the window of the bundle (-1000 to 400 HU); labels (1, X, Y) are 1 in the lung.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import GaussianSmooth, MapTransform, RandomizableTransform
from torch.nn import functional

from monai_r2unet.transforms.fit import fit_in_plane

__all__ = [
    "RandAerationd",
    "RandBlurd",
    "RandConsolidationd",
    "RandCroppedScand",
    "RandDenoised",
    "RandDiaphragmd",
    "RandFieldOfViewd",
    "RandGasd",
    "RandHeadd",
    "RandPelvisd",
    "RandSurroundingsd",
]


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


class RandAerationd(RandSliceTransform):
    """Imitate lungs of other density: expiration, deep inspiration, and emphysema, even or in patches.

    The aerated part of the labelled lung is shifted by -100 to 60 HU; patches of it may come near air (-950 to
    -1000 HU). Vessels and opacities stay.

    Args:
        image_key: key of the image.
        label_key: key of the lung mask.
        prob: probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift the aerated lung, and empty patches of it in two of five slices."""
        aerated = ((0.45 - image[0]) / 0.15).clamp(0, 1) * (label[0] > 0)
        drawn = image[0] + float(self.R.uniform(-0.07, 0.045)) * aerated
        if self.R.rand() < 0.4:
            field = self.smooth_field(image.shape, int(self.R.randint(6, 48)))
            patches = torch.sigmoid(float(self.R.uniform(2.0, 8.0)) * (field - float(self.R.uniform(-0.5, 1.5))))
            patches = patches * aerated * float(self.R.uniform(0.4, 1.0))
            drawn = drawn * (1 - patches) + float(self.R.uniform(0.0, 0.04)) * patches
        return drawn.clamp(0, 1)[None], label


class RandBlurd(RandSliceTransform):
    """Imitate smooth reconstruction kernels and resampled volumes: a Gaussian blur in plane.

    Args:
        image_key: key of the image.
        label_key: key of the mask, which stays as it is.
        prob: probability of a change.
        sigma: least and greatest standard deviation in pixels.
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
    """Imitate iterative and deep-learning reconstruction: noise and texture go, edges stay (a bilateral filter).

    Source: Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images", doi:10.1109/ICCV.1998.710815.

    Args:
        image_key: key of the image.
        label_key: key of the mask, which stays as it is.
        prob: probability of a change.
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
        image: any range.
        reach: neighbours along each axis and direction.
        sigma: standard deviation of the weight by distance, in pixels.
        tolerance: standard deviation of the weight by difference, in the image's unit.
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


class RandConsolidationd(RandSliceTransform):
    """Imitate consolidation, ground glass and effusion: opacities inside the labelled lung, which stays labelled.

    Patches of a smooth random field, or the dependent (posterior) part as in an effusion, take grey values between
    ground glass and soft tissue (about -500 to 80 HU in a window of -1000 to 400 HU). Some are diffuse, as in acute
    respiratory
    distress: mottled, reticular, with aerated islands.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Opacify a random 5 to 95 % of the labelled pixels."""
        lung = label[0] > 0
        if not lung.any():
            return image, label
        field = self.smooth_field(image.shape, int(self.R.randint(4, 24)))
        if self.R.rand() < 0.4:  # gravity
            field = field * 0.3 + 4.0 * self.grid(image.shape)[1]
        if self.R.rand() < 0.3:  # one side only
            side = 1.0 if self.R.rand() < 0.5 else -1.0
            field = field + 6.0 * side * self.grid(image.shape)[0]
        diffuse = bool(self.R.rand() < 0.4)
        if diffuse:
            field = field + float(self.R.uniform(0.3, 1.2)) * self.smooth_field(
                image.shape, int(self.R.randint(24, 64))
            )
            field = field + float(self.R.uniform(0.0, 0.6)) * self.smooth_field(image.shape, 96)
        start = torch.quantile(field[lung], float(1 - self.R.uniform(0.05, 0.95)))
        edge = float(self.R.uniform(1.0, 4.0) if diffuse else self.R.uniform(2.0, 20.0))
        opacity = torch.sigmoid(edge * (field - start)) * lung
        if self.R.rand() < 0.7:
            grey = self.R.uniform(0.68, 0.78)  # consolidation, effusion
        else:
            grey = self.R.uniform(0.35, 0.68)  # ground glass
            opacity = opacity * float(self.R.uniform(0.5, 1.0))
        texture = grey + self.R.uniform(0.0, 0.03) * self.noise(image.shape)
        texture = texture + self.R.uniform(0.0, 0.15 if diffuse else 0.05) * self.smooth_field(image.shape, 32)
        return image * (1 - opacity) + texture.clamp(0, 0.8) * opacity, label


class RandCroppedScand(RandSliceTransform):
    """Imitate a cropped scan: one side of the body, or a window of 40 to 100 % of the image's sides.

    What is left is padded as in use (:func:`~monai_r2unet.transforms.fit.fit_in_plane`); the label with 0.

    Args:
        image_key: key of the image, which must be square.
        label_key: key of the mask.
        prob: probability of a change.
        beyond: see :func:`~monai_r2unet.transforms.fit.fit_in_plane`.
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


class RandDiaphragmd(RandSliceTransform):
    """Imitate the dome of the diaphragm: liver or spleen, round and homogeneous, surrounded by lung but not lung.

    A network trained on opaque lungs (`RandConsolidationd`) takes such a dome for one. What distinguishes the two is
    the smooth, convex outline and the homogeneous grey.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask, from which the dome is removed.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw an ellipse around a random pixel of the lung, within the lung."""
        lung = label[0] > 0
        places = lung.nonzero()
        if len(places) == 0:
            return image, label
        x, y = self.grid(image.shape)
        place = places[self.R.randint(len(places))]
        rx, ry = self.R.uniform(0.12, 0.4) * self.R.uniform(0.75, 1.33, 2)
        across, down = x - x[place[0], place[1]], y - y[place[0], place[1]]
        radius = squared_radius(across, down, (rx, ry), tilt=self.R.uniform(-np.pi, np.pi)).sqrt()
        radius = radius + self.R.uniform(0.0, 0.1) * self.smooth_field(image.shape, int(self.R.randint(4, 10)))
        # The dome's edge is steep or, where the slice grazes it, washed out.
        dome = torch.sigmoid(float(self.R.uniform(10.0, 60.0)) * (1 - radius)) * lung
        grey = self.R.uniform(0.72, 0.82)  # 10 to 150 HU: liver and spleen, without and with contrast medium
        texture = grey + self.R.uniform(0.0, 0.04) * self.noise(image.shape)
        drawn = image * (1 - dome) + texture.clamp(0, 1) * dome
        return drawn, label * (dome < 0.5)


class RandGasd(RandSliceTransform):
    """Imitate gas in stomach and bowel: pockets of air in soft tissue, away from the lungs and not lung.

    Pockets are round or irregular, with or without a fluid level, or mottled like stool. A network that has seen few
    abdomens takes them for lung.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask; its surroundings stay unchanged.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one to eight pockets where the image is soft tissue."""
        margin = 2 * (image.shape[-1] // 64) + 1
        near_lung = functional.max_pool2d((label > 0).float()[None], margin, stride=1, padding=margin // 2)[0]
        tissue = (image > 0.55) & (near_lung == 0)
        # A wall of tissue stays around each pocket.
        free = -functional.max_pool2d(-tissue.float()[None], 3, stride=1, padding=1)[0, 0] > 0
        places = free.nonzero()
        if len(places) == 0:
            return image, label
        x, y = self.grid(image.shape)
        drawn = image[0].clone()
        for _ in range(self.R.randint(1, 9)):
            place = places[self.R.randint(len(places))]
            cx, cy = x[place[0], place[1]], y[place[0], place[1]]
            rx, ry = self.R.uniform(0.02, 0.25, 2)
            radius = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
            radius = radius + self.R.uniform(0.0, 0.6) * self.smooth_field(image.shape, int(self.R.randint(6, 32)))
            pocket = torch.sigmoid(float(self.R.uniform(4.0, 20.0)) * (1 - radius)) * free
            # As noisy as lungs, or even: noise must not tell gas from lung.
            content = self.R.uniform(0.0, 0.08) + self.R.uniform(0.0, 0.06) * self.noise(image.shape)
            kind = self.R.rand()
            if kind < 0.25:  # fluid below a level
                content = torch.where(y > cy + self.R.uniform(-0.5, 0.8) * ry, 0.72 + 0 * content, content)
            elif kind < 0.4:  # stool
                content = content + 0.6 * torch.sigmoid(4 * self.smooth_field(image.shape, 48))
            drawn = drawn * (1 - pocket) + content.clamp(0, 1) * pocket
        return drawn[None], label


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


class RandHeadd(RandSliceTransform):
    """Imitate a slice through the head in place of one without lung: a chest scan may begin there.

    A network trained on opaque lungs takes a brain within its skull for one.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask; slices with lung stay unchanged.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw scalp, skull, brain and, in front and at the sides, air-filled cavities."""
        if label.any():
            return image, label
        x, y = self.grid(image.shape)
        cx, cy = self.R.uniform(-0.2, 0.2, 2)
        rx = self.R.uniform(0.25, 0.55)
        ry = rx * self.R.uniform(1.0, 1.5)
        shape = 0.15 * self.smooth_field(image.shape, int(self.R.randint(4, 12)))
        radius = (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2).sqrt() + shape * self.R.rand()
        skull = self.R.uniform(0.75, 0.93)
        brain = skull - self.R.uniform(0.04, 0.2)
        noise = self.R.uniform(0.0, 0.02) * self.noise(image.shape)
        head = torch.full_like(radius, float(self.R.uniform(0.64, 0.75)))  # scalp
        head = torch.where(radius < skull, self.R.uniform(0.85, 1.0) * torch.ones_like(head), head)
        matter = self.R.uniform(0.715, 0.755) + 0.01 * self.smooth_field(image.shape, 12)
        head = torch.where(radius < brain, matter, head)
        for _ in range(self.R.randint(0, 9)):
            side = self.R.choice([-1.0, 0.0, 1.0])  # mastoid cells of the ears; sinuses, nose and throat in the middle
            ox = cx + rx * (side * self.R.uniform(0.6, 0.95) if side else self.R.uniform(-0.4, 0.4))
            oy = cy + ry * (self.R.uniform(-0.2, 0.5) if side else -self.R.uniform(0.1, 0.95))
            size = self.R.uniform(0.03, 0.3, 2) * rx
            cavity = ((x - ox) / size[0]) ** 2 + ((y - oy) / size[1]) ** 2 + self.R.rand() * shape / 0.15 < 1
            head = torch.where(cavity, self.R.uniform(0.0, 0.3) * torch.ones_like(head), head)
        drawn = torch.where(radius < 1, head + noise, torch.zeros_like(head))
        return drawn[None].clamp(0, 1).to(image.dtype), label


class RandPelvisd(RandSliceTransform):
    """Imitate a slice through the pelvis in place of one without lung: a scan of chest and abdomen extends to it.

    A network trained on opaque lungs takes the tissue within the pelvic ring for one.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask; slices with lung stay unchanged.
        prob: Probability of a change.
    """

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw fat, muscle, bowel and bladder, sacrum, and the wings of the ilium or the heads of the femurs."""
        if label.any():
            return image, label
        x, y = self.grid(image.shape)
        x, y = x - self.R.uniform(-0.15, 0.15), y - self.R.uniform(-0.15, 0.15)
        rx = self.R.uniform(0.5, 0.95)
        ry = rx * self.R.uniform(0.5, 0.85)
        wavy = 0.08 * self.smooth_field(image.shape, int(self.R.randint(4, 12)))

        def radii(low: float, high: float) -> tuple[float, float]:
            across, down = self.R.uniform(low, high, 2)
            return across * rx, down * ry

        body = squared_radius(x, y, (rx, ry), 0.0).sqrt() + wavy
        fat = float(self.R.uniform(0.62, 0.67))  # -130 to -60 HU
        muscle = float(self.R.uniform(0.72, 0.77))  # 10 to 80 HU
        drawn = torch.where(body < self.R.uniform(0.7, 0.97), muscle, fat)
        cavity = squared_radius(x, y + self.R.uniform(0.0, 0.2) * ry, radii(0.4, 0.7), 0.0) + wavy
        bowel = self.smooth_field(image.shape, int(self.R.randint(8, 32))) > self.R.uniform(-1.0, 1.0)
        drawn = torch.where(cavity < 1, torch.where(bowel, muscle, fat), drawn)
        if self.R.rand() < 0.5:  # bladder or uterus
            organ = squared_radius(x, y, radii(0.15, 0.4), self.R.uniform(-0.5, 0.5)) + wavy
            drawn = torch.where(organ < 1, float(self.R.uniform(0.71, 0.82)), drawn)
        sacrum = squared_radius(x, y - self.R.uniform(0.4, 0.7) * ry, radii(0.12, 0.3), 0.0)
        drawn = self.bone(sacrum + wavy, drawn)
        wings = self.R.rand() < 0.7
        away, behind = self.R.uniform(0.4, 0.65) * rx, self.R.uniform(-0.1, 0.35) * ry
        long, short = (self.R.uniform(0.2, 0.4), self.R.uniform(0.03, 0.09)) if wings else self.R.uniform(0.1, 0.2, 2)
        tilt = self.R.uniform(0.4, 1.4)
        for side in (-1.0, 1.0):
            hip = squared_radius(x - side * away, y - behind, (long * rx, short * rx), -side * tilt)
            drawn = self.bone(hip + wavy, drawn)
        drawn = drawn + self.R.uniform(0.0, 0.03) * self.noise(image.shape)
        return (drawn * (body < 1))[None].clamp(0, 1).to(image.dtype), label

    def bone(self, radius: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """``drawn`` with a bone where ``radius`` is below 1: dense at its rim, spongy within."""
        spongy = float(self.R.uniform(0.75, 0.92)) + 0.04 * self.smooth_field(radius.shape, 48)
        return torch.where(radius < 0.6, spongy, torch.where(radius < 1, torch.ones_like(drawn), drawn))


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
            away: distance of each pixel from the body in shares of the image's side, 0 within.
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
            away: distance of each pixel from the body in shares of the image's side, 0 within.
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
