"""The field of view of a fundus photograph, where the data set gives none."""

from __future__ import annotations

import SimpleITK as sitk

from monai_r2unet.errors import InputError

__all__ = ["field_of_view"]

SMOOTHING = 2  # pixels; radius of the median, against noise of the film or the compression
OPENING = 5  # pixels; radius, against text and glare that touch the rim
SMALLEST = 0.2  # of the photograph


def field_of_view(photograph: sitk.Image) -> sitk.Image:
    """Find the disc that the fundus camera shows, in a photograph of the retina.

    The retina is red and its surroundings are nearly black, but how black differs between cameras. So the threshold is
    Otsu's, on the logarithm of the red channel (median-filtered), where the rim of a dim photograph is still far from
    the dark. The largest connected part, opened and with its holes filled, is the field of view.

    Args:
        photograph: 2D, RGB, uint8.

    Returns:
        uint8 on the same grid: 255 inside, 0 outside.

    Raises:
        InputError: not RGB, or no disc that covers a fifth of it.
    """
    if photograph.GetNumberOfComponentsPerPixel() != 3:
        raise InputError("a field of view is found in the red channel, but the photograph is grey: give it in RGB")
    red = sitk.Cast(sitk.VectorIndexSelectionCast(photograph, 0), sitk.sitkFloat32)
    bright = sitk.OtsuThreshold(sitk.Log(sitk.Median(red, [SMOOTHING] * 2) + 1), 0, 1)
    parts = sitk.ConnectedComponent(sitk.BinaryMorphologicalOpening(bright, [OPENING] * 2))
    inside = sitk.BinaryFillhole(sitk.RelabelComponent(parts) == 1)
    if sitk.GetArrayViewFromImage(inside).mean() < SMALLEST:
        raise InputError(
            f"no bright disc fills {SMALLEST:.0%} of the photograph, so its field of view cannot be found: give a mask "
            "of it"
        )
    return inside * 255
