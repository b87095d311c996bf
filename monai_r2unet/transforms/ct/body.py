"""Findings and parts of the body that the training data lack: opaque lungs, gas in the bowel, heads, pelves."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from monai_r2unet.transforms.ct.slices import RandSliceTransform, squared_radius

__all__ = ["RandAerationd", "RandConsolidationd", "RandDiaphragmd", "RandGasd", "RandHeadd", "RandPelvisd"]


class RandAerationd(RandSliceTransform):
    """Imitate lungs of other density: expiration, deep inspiration, and emphysema, even or in patches.

    The aerated part of the labelled lung is shifted by -100 to 60 HU; patches of it may come near air (-950 to
    -1000 HU). Vessels and opacities stay.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask.
        prob: Probability of a change.
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


class RandConsolidationd(RandSliceTransform):
    """Imitate consolidation, ground glass and effusion: opacities inside the labelled lung, which stays labelled.

    Patches of a smooth random field, or the dependent (posterior) part as in an effusion, take grey values between
    ground glass and soft tissue (about -500 to 80 HU in a window of -1000 to 400 HU). Some are diffuse, as in acute
    respiratory distress: mottled, reticular, with aerated islands.

    Slices with less lung than `LEAST_LUNG` stay as they are: near the diaphragm a slice does not tell an opaque lung
    from spleen, kidney or liver, and a network that has to guess labels them as lung.

    Args:
        image_key: Key of the image.
        label_key: Key of the lung mask.
        prob: Probability of a change.
    """

    LEAST_LUNG = 0.05  # of the image's pixels

    def apply(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Opacify a random 5 to 95 % of the labelled pixels."""
        lung = label[0] > 0
        if lung.float().mean() < self.LEAST_LUNG:
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


class RandDiaphragmd(RandSliceTransform):
    """Imitate the dome of the diaphragm: liver or spleen, round and homogeneous, surrounded by lung but not lung.

    A network trained on opaque lungs (`RandConsolidationd`) mistakes such a dome for one. What distinguishes the two is
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
    abdomens mistakes them for lung.

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
            radius = squared_radius(x - cx, y - cy, (rx, ry), 0.0)
            radius = radius + self.R.uniform(0.0, 0.6) * self.smooth_field(image.shape, int(self.R.randint(6, 32)))
            pocket = torch.sigmoid(float(self.R.uniform(4.0, 20.0)) * (1 - radius)) * free
            # As noisy as lungs, or even: noise must not distinguish gas from lung.
            content = self.R.uniform(0.0, 0.08) + self.R.uniform(0.0, 0.06) * self.noise(image.shape)
            kind = self.R.rand()
            if kind < 0.25:  # fluid below a level
                content = torch.where(y > cy + self.R.uniform(-0.5, 0.8) * ry, 0.72 + 0 * content, content)
            elif kind < 0.4:  # stool
                content = content + 0.6 * torch.sigmoid(4 * self.smooth_field(image.shape, 48))
            drawn = drawn * (1 - pocket) + content.clamp(0, 1) * pocket
        return drawn[None], label


class RandHeadd(RandSliceTransform):
    """Imitate a slice through the head in place of one without lung: a chest scan may begin there.

    A network trained on opaque lungs mistakes a brain within its skull for one.

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
        radius = squared_radius(x - cx, y - cy, (rx, ry), 0.0).sqrt() + shape * self.R.rand()
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
            cavity = squared_radius(x - ox, y - oy, size, 0.0) + self.R.rand() * shape / 0.15 < 1
            head = torch.where(cavity, self.R.uniform(0.0, 0.3) * torch.ones_like(head), head)
        drawn = torch.where(radius < 1, head + noise, torch.zeros_like(head))
        return drawn[None].clamp(0, 1).to(image.dtype), label


class RandPelvisd(RandSliceTransform):
    """Imitate a slice through the pelvis in place of one without lung: a scan of chest and abdomen extends to it.

    A network trained on opaque lungs mistakes the tissue within the pelvic ring for one.

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
