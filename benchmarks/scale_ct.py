"""Choose the minimum extent in mm to which CT slices are fitted, on the validation volume of LCTSC.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.scale_ct

Segments every fifth slice of LCTSC 006 with the lung bundle as scanned (500 mm wide), cropped to either side, to 200,
250 and 300 mm around the body's middle, and in pixels of 4 mm, each with extents from 200 mm (every slice is magnified
to the complete square) to 550 mm. Writes the Dice to `benchmarks/results/scale_ct.json`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn import functional

from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.files import write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import confusion
from monai_r2unet.provenance import versions

RESULT = RESULTS / "scale_ct.json"
EXTENTS = [200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 550.0]
PIXEL = 4.0  # mm, for the coarse form

Form = Callable[[sitk.Image], sitk.Image]


def middle_of(ct: sitk.Image) -> tuple[int, int]:
    """The pixel (X, Y) in the middle of the body: the voxels above -300 HU in a fifth of the slices."""
    body = (sitk.GetArrayViewFromImage(ct) > -300).mean(0) > 0.2
    y, x = np.nonzero(body)
    return int(np.median(x)), int(np.median(y))


def square(mm: float, middle: tuple[int, int]) -> Form:
    """Cut a square with this side in mm around a pixel."""

    def cut(image: sitk.Image) -> sitk.Image:
        half = [round(mm / spacing / 2) for spacing in image.GetSpacing()[:2]]
        (x, y), (hx, hy) = middle, half
        return image[max(0, x - hx) : x + hx, max(0, y - hy) : y + hy, :]

    return cut


def coarse(image: sitk.Image) -> sitk.Image:
    """Average to pixels of 4 mm; a mask is 1 where at least half of the pixel is."""
    size = [round(n * s / PIXEL) for n, s in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True)]
    values = torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.float32))
    averaged = functional.interpolate(values[None], (size[1], size[0]), mode="area")[0].numpy()
    mask = image.GetPixelID() == sitk.sitkUInt8
    result = sitk.GetImageFromArray((averaged >= 0.5).astype(np.uint8) if mask else averaged.round().astype(np.int16))
    result.SetSpacing((PIXEL, PIXEL, image.GetSpacing()[2]))
    return result


def main() -> None:
    """Measure all forms with all extents and write the result file."""
    folder = Path(os.environ["MONAI_R2UNET_DATA"]) / "lung" / "lctsc"
    ct, reference = (read_image(folder / f"LCTSC_006_{kind}.nii.gz")[:, :, ::5] for kind in ("ct", "lung"))
    x, y = middle_of(ct)
    width, height, _ = ct.GetSize()
    forms: dict[str, Form] = {
        "as scanned, 500 mm": lambda image: image,
        "one side": lambda image: image[:x, 0:height, :],
        "the other side": lambda image: image[x:width, 0:height, :],
        "200 mm": square(200, (x, y)),
        "250 mm": square(250, (x, y)),
        "300 mm": square(300, (x, y)),
        "pixels of 4 mm": coarse,
    }
    segment = Segmenter("lung", device="cpu")
    dice: dict[str, dict[str, float]] = {}
    for name, form in forms.items():
        image, truth = form(ct), sitk.GetArrayFromImage(form(reference))
        own = max(n * spacing for n, spacing in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True))
        measured: dict[float, float] = {}  # by the extent shown: an extent below the slice's own has no effect
        for extent in EXTENTS:
            shown = max(extent, own)
            if shown not in measured:
                segment.inferer.min_extent = extent
                measured[shown] = confusion(sitk.GetArrayFromImage(segment(image)), truth).dice
            dice.setdefault(name, {})[f"{extent:g} mm"] = round(measured[shown], 4)
        print(name, dice[name], flush=True)
    result = {
        "command": "python -m benchmarks.scale_ct",
        "measure": "Dice of every fifth slice of LCTSC 006 by form and least extent",
        "weights_sha256": segment.weights_sha256,
        "device": "cpu",
        "dice": dice,
        "versions": versions(),
    }
    write_json(result, RESULT)


if __name__ == "__main__":
    main()
