"""The grey-value window of an image, from black to white, as width and centre."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

__all__ = ["WINDOWS", "automatic_window"]

# In Hounsfield units, as used by radiologists.
WINDOWS = {
    "lung": (1500, -600),
    "soft tissue": (400, 40),
    "bone": (1800, 400),
    "brain": (80, 40),
}
TAILS = (0.5, 99.5)  # percentiles of the voxels that bound the automatic window
SAMPLE = 100  # sampled voxels along each axis


def automatic_window(image: sitk.Image) -> tuple[float, float]:
    """Width and centre of the window that covers most voxels.

    Args:
        image: Grey image with any range of values.

    Returns:
        Both in the image's own values, the width above 0. The lowest value is ignored: it is the padding around the
        scanned region, which may be far below air.
    """
    values = sitk.GetArrayViewFromImage(image)
    sample = values[tuple(slice(None, None, max(1, size // SAMPLE)) for size in values.shape)]
    inside = sample[sample > sample.min()]
    low, high = np.percentile(inside if inside.size and np.ptp(inside) > 0 else sample, TAILS)
    return float(max(high - low, 1e-6)), float((high + low) / 2)
