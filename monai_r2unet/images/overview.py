"""One picture of a case that shows at a glance whether its mask is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image, ImageDraw

from monai_r2unet.images.components import bounding_box

__all__ = ["LUNG_WINDOW", "overview"]

PANEL = 340  # pixels, width and height of a panel
GAP = 4
MARGIN = 30.0  # mm around the mask
LUNG_WINDOW = (-1350.0, 150.0)  # HU
HEIGHTS = (0.85, 0.5, 0.15)  # of the mask's extent: a lung's apex, hilum and base
# Axes (Z, Y, X) of an LPS volume that a panel shows, downwards and across; with z downwards, the head is on top.
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
SIDES = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}


def overview(
    image: sitk.Image, mask: sitk.Image, labels: Sequence[Mapping[str, Any]], window: tuple[float, float] | None
) -> Image.Image:
    """Draw the outlines of a mask on its image.

    A volume is shown in five panels: three axial slices from top to bottom of the mask, and the coronal and the
    sagittal slice that hold most of it. A photograph is shown complete.

    Args:
        image: 3D, or a photograph (2D, grey or RGB).
        mask: Label map on the image's grid.
        labels: The bundle's labels, each with ``value`` and ``colour`` (RGB, 0 to 255).
        window: Values that are black and white; ``None`` for the 1st and 99th percentile of the image.
    """
    colours = {label["value"]: _vivid(label["colour"]) for label in labels}
    if image.GetDimension() == 2:
        values, where = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask)
        return _panel(values, where, image.GetSpacing()[::-1], colours, window or _range(values), "")
    image, mask = (sitk.DICOMOrient(each, "LPS") for each in (image, mask))
    spacing = np.array(image.GetSpacing()[::-1])
    # Views: the arrays of a large scan are not copied.
    values, where = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask)
    window = window or _range(values)
    box = bounding_box(where)
    around = tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(box or (), np.ceil(MARGIN / spacing).astype(int).tolist(), strict=False)
    )
    values, where = values[around], where[around]
    first, last = (
        (0, where.shape[0] - 1) if box is None else (box[0].start - around[0].start, box[0].stop - around[0].start - 1)
    )
    chosen = [("axial", round(first + height * (last - first))) for height in HEIGHTS]
    chosen += [(plane, _fullest(where, PLANES[plane])) for plane in ("coronal", "sagittal")]
    panels = []
    for plane, index in chosen:
        axis = PLANES[plane]
        shown, outlined = values.take(index, axis), where.take(index, axis)
        if plane != "axial":
            shown, outlined = shown[::-1], outlined[::-1]  # the head on top
        panels.append(_panel(shown, outlined, np.delete(spacing, axis).tolist(), colours, window, SIDES[plane]))
    return _side_by_side(panels)


def _fullest(where: npt.NDArray[np.uint8], axis: int) -> int:
    """The slice across ``axis`` that holds most of the mask, or the middle one of an empty mask."""
    held = np.count_nonzero(where, axis=tuple(other for other in range(3) if other != axis))
    return int(np.argmax(held)) if held.any() else where.shape[axis] // 2


def _vivid(colour: Sequence[int]) -> tuple[int, ...]:
    """The hue of a colour at full saturation, to be seen on grey; yellow for a grey."""
    low, high = min(colour), max(colour)
    return tuple(255 * (part - low) // (high - low) for part in colour) if high > low else (255, 255, 0)


def _range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The 1st and 99th percentile of an image, which may be too large to look at every value."""
    low, high = np.percentile(values.ravel()[:: max(1, values.size // 100_000)], [1, 99])
    return float(low), float(high) if high > low else float(low) + 1


def _panel(
    values: npt.NDArray[Any],
    where: npt.NDArray[np.uint8],
    spacing: Sequence[float],
    colours: Mapping[int, tuple[int, ...]],
    window: tuple[float, float],
    sides: str,
) -> Image.Image:
    """A slice (rows, columns[, RGB]) at its true proportions, with the outline of each label."""
    low, high = window
    grey = np.clip((values.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    if values.ndim == 3:
        grey = values.astype(np.uint8)
    extent = np.array(where.shape) * np.array(spacing)
    rows, columns = np.maximum(1, np.round(extent * PANEL / extent.max())).astype(int).tolist()
    picture = np.array(Image.fromarray(grey).convert("RGB").resize((columns, rows), Image.Resampling.BILINEAR))
    labels = np.array(Image.fromarray(where).resize((columns, rows), Image.Resampling.NEAREST))
    padded = np.pad(labels, 1, mode="edge")
    neighbours = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    outline = np.any([neighbour != labels for neighbour in neighbours], axis=0)
    for value, colour in colours.items():
        picture[outline & (labels == value)] = colour
    panel = Image.fromarray(picture)
    draw = ImageDraw.Draw(panel)
    for side, x in zip(sides, (3, columns - 9), strict=False):
        draw.text((x, rows // 2 - 6), side, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return panel


def _side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    picture = Image.new("RGB", (width, PANEL))
    x = 0
    for panel in panels:
        picture.paste(panel, (x, (PANEL - panel.height) // 2))
        x += panel.width + GAP
    return picture
