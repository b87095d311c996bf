"""Which values of a grey image are black and which white, as width and centre of the window between them."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

__all__ = ["WINDOWS", "automatic_window"]

# In Hounsfield units as radiologists use them.
WINDOWS = {
    "lung": (1500, -600),
    "soft tissue": (400, 40),
    "bone": (1800, 400),
    "brain": (80, 40),
}
TAILS = (0.5, 99.5)  # percent of the voxels between which the automatic window lies
SAMPLE = 100  # voxels along each axis that are looked at


def automatic_window(image: sitk.Image) -> tuple[float, float]:
    """Width and centre of the grey values that most voxels have.

    Args:
        image: grey, of any values.

    Returns:
        Both in the image's own values, the width above 0. The lowest value does not count: it is the padding around
        what was scanned, which may be far below air.
    """
    values = sitk.GetArrayViewFromImage(image)
    sample = values[tuple(slice(None, None, max(1, size // SAMPLE)) for size in values.shape)]
    inside = sample[sample > sample.min()]
    low, high = np.percentile(inside if inside.size and np.ptp(inside) > 0 else sample, TAILS)
    return float(max(high - low, 1e-6)), float((high + low) / 2)
