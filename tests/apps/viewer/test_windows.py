"""The automatic window of an image that is opened."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.apps.viewer.windows import automatic_window


def test_padding_around_what_was_scanned_does_not_count():
    scanned = np.linspace(-1000, 1000, 40**3).reshape(40, 40, 40)
    padded = np.pad(scanned, ((0, 0), (20, 20), (20, 20)), constant_values=-3024)
    assert automatic_window(sitk.GetImageFromArray(padded)) == pytest.approx((1980, 0), abs=1)


@pytest.mark.parametrize("values", [np.zeros((2, 3, 4)), np.eye(4, dtype=np.uint8)[None], np.full((9, 9), 7)])
def test_an_image_with_hardly_any_values_has_a_window_too(values):
    width, centre = automatic_window(sitk.GetImageFromArray(values))
    assert width > 0
    assert values.min() <= centre <= values.max()
