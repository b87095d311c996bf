"""The field of view of a fundus photograph: the visible disc and its width."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from monai_r2unet.errors import InputError

__all__ = ["field_of_view", "field_of_view_diameter"]

SMOOTHING = 2  # pixels; radius of the median, against film noise and compression artefacts
OPENING = 5  # pixels; radius, against text and glare that touch the rim
SMALLEST = 0.2  # fraction of the photograph
# The surround in DRIVE, STARE and CHASE_DB1 has at most 0.14 times the red of the retina. In photographs cropped to the
# retina, the "surround" that Otsu's threshold finds has at least 0.66 times that.
DARK = 0.35
SEARCHED = 512  # pixels; longest side of the copy in which the diameter is measured
WIDEST = 95  # percentile of the lengths of all rows or columns of the disc: a label beside it fills few of them
# Fraction of the disc's width: an edge of the photograph that meets less of the disc cuts off 0.3 % of it at most.
CUT = 0.1


def field_of_view(photograph: sitk.Image) -> sitk.Image:
    """Find the disc that the fundus camera shows, in a photograph of the retina.

    The retina is red and the surround nearly black, but how black differs between cameras. The threshold is therefore
    Otsu's on the logarithm of the median-filtered red channel, where even the dim rim of a photograph is far from the
    surround. The field of view is the largest connected part, opened and with its holes filled.

    Args:
        photograph: 2D image, RGB, uint8.

    Returns:
        uint8 on the same grid: 255 inside, 0 outside.

    Raises:
        InputError: if the photograph is not RGB, or no disc covers a fifth of it.
    """
    if photograph.GetNumberOfComponentsPerPixel() != 3:
        raise InputError("a field of view is found in the red channel, but the photograph is grey: give it in RGB")
    inside = _disc(sitk.Cast(sitk.VectorIndexSelectionCast(photograph, 0), sitk.sitkFloat32))
    if sitk.GetArrayViewFromImage(inside).mean() < SMALLEST:
        raise InputError(
            f"no bright disc fills {SMALLEST:.0%} of the photograph, so its field of view cannot be found: give a mask "
            "of it"
        )
    return inside * 255


def field_of_view_diameter(red: npt.NDArray[Any]) -> float | None:
    """Measure the field of view of a fundus photograph, found as in :func:`field_of_view` on a smaller copy.

    The width is that of the rows or columns, whichever are longer, so glare and labels at the rim do not count. If the
    photograph cuts the disc off at the top and bottom (or left and right), the width in the other direction counts. If
    it is cut off on all sides, a circle is fitted to the remaining rim.

    Args:
        red: Red channel, 2D, any order of the axes, any number of bits.

    Returns:
        The diameter in pixels, or ``None`` if there is no dark surround (the photograph was cropped to the retina).
    """
    step = max(1, round(max(red.shape) / SEARCHED))
    if abs(red.strides[0]) < abs(red.strides[1]):
        red = red.T  # as it lies in memory: copied ten times as fast
    channel = sitk.GetImageFromArray(np.ascontiguousarray(red))
    channel = sitk.Cast(sitk.BinShrink(channel, [step, step]) if step > 1 else channel, sitk.sitkFloat32)
    if min(channel.GetSize()) <= 2 * OPENING:
        return None
    inside = sitk.GetArrayFromImage(_disc(channel)) > 0
    values = sitk.GetArrayViewFromImage(channel)
    if inside.all() or inside.mean() < SMALLEST or np.median(values[~inside]) > DARK * np.median(values[inside]):
        return None
    height, width = (np.percentile(lengths[lengths > 0], WIDEST) for lengths in (inside.sum(0), inside.sum(1)))
    diameter = max(height, width)
    ends = inside[:, [0, -1]].sum(0) if width > height else inside[[0, -1]].sum(1)
    if ends.max() > CUT * diameter:
        diameter = max(diameter, _circle_diameter(inside))
    return float(step * diameter)


def _disc(red: sitk.Image) -> sitk.Image:
    """The largest bright part of a red channel, opened and filled: uint8, 1 inside."""
    bright = sitk.OtsuThreshold(sitk.Log(sitk.Median(red, [SMOOTHING] * 2) + 1), 0, 1)
    parts = sitk.ConnectedComponent(sitk.BinaryMorphologicalOpening(bright, [OPENING] * 2))
    return sitk.BinaryFillhole(sitk.RelabelComponent(parts) == 1)


def _circle_diameter(inside: npt.NDArray[np.bool_]) -> float:
    """Diameter in pixels of the circle through a disc's rim, where the picture does not cut it (least squares)."""
    padded = np.pad(inside, 1, mode="edge")
    rim = inside & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
    x, y = np.nonzero(rim)
    # x^2 + y^2 = 2 cx x + 2 cy y + (r^2 - cx^2 - cy^2), linear in the centre and the last term (Kasa's fit).
    (a, b, c), *_ = np.linalg.lstsq(np.stack([x, y, np.ones(len(x))], 1), (x**2 + y**2).astype(float), rcond=None)
    return float(2 * np.sqrt(c + a**2 / 4 + b**2 / 4))
