"""Draw the shipped lung weights on the test cases: what they do as a rule, and where they fail.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.figure_lung

- `docs/figures/lung.webp`: three slices of LCTSC 007 with the mask and the manual mask;
- `docs/figures/lung_worst.webp`: of LCTSC 007 and 008 the slice with the lowest Dice, of those with more than 1 cm2 of
  lung, and the slice with the most pixels wrongly called lung.
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from benchmarks.measure_lung import worst_slice
from benchmarks.records import REPOSITORY
from monai_r2unet import Segmenter
from monai_r2unet.images.agreement import agreement_colours
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import confusion
from monai_r2unet.metrics.figures import agreement_legend

matplotlib.use("Agg")
from matplotlib import pyplot

FIGURES = REPOSITORY / "docs" / "figures"
CASES = {
    "LCTSC 007": ("volumes/LCTSC_007_dicom", "volumes/LCTSC_007_lung.nii.gz"),
    "LCTSC 008": ("lung/lctsc/LCTSC_008_ct.nii.gz", "lung/lctsc/LCTSC_008_lung.nii.gz"),
}

Slice = tuple[str, sitk.Image, sitk.Image, sitk.Image, int]  # title, image, mask, manual mask, index


def most_wrong(mask: sitk.Image, reference: sitk.Image) -> int:
    """Index of the axial slice with the most pixels wrongly called lung."""
    found, expected = (sitk.GetArrayViewFromImage(image) > 0 for image in (mask, reference))
    return int((found & ~expected).sum(axis=(1, 2)).argmax())


def draw(slices: list[Slice], path: Path) -> None:
    """Each slice in grey, and below it the agreement of the two masks in colour."""
    figure, axes = pyplot.subplots(2, len(slices), figsize=(3 * len(slices), 5.4), layout="constrained")
    for column, (title, *volumes, k) in zip(axes.T, slices, strict=True):
        image, mask, reference = (sitk.GetArrayViewFromImage(volume)[k] for volume in volumes)
        rows = slice(round(0.12 * len(image)), round(0.82 * len(image)))  # without the air above and the couch below
        grey: npt.NDArray[np.float32] = np.clip((image.astype(np.float32) + 1000) / 1400, 0, 1)
        column[0].imshow(grey[rows], cmap="gray", vmin=0, vmax=1)
        column[1].imshow(agreement_colours(grey, mask > 0, reference > 0)[rows])
        dice = confusion(mask, reference).dice
        column[0].set_title(f"{title}slice {k + 1} of {volumes[0].GetDepth()}, Dice {dice:.3f}", fontsize=10)
        for axis in column:
            axis.set_axis_off()
    agreement_legend(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 90, "method": 6})


def main() -> None:
    """Segment the cases and draw them."""
    data, segment = Path(os.environ["MONAI_R2UNET_DATA"]), Segmenter("lung")
    worst: list[Slice] = []
    for name, (image_path, reference_path) in CASES.items():
        image, reference = read_image(data / image_path), read_image(data / reference_path)
        mask = segment(image)
        if name == "LCTSC 007":
            lung = np.flatnonzero(sitk.GetArrayViewFromImage(reference).any(axis=(1, 2)))
            typical = [int(np.quantile(lung, quantile)) for quantile in (0.25, 0.5, 0.75)]
            draw([("", image, mask, reference, k) for k in typical], FIGURES / "lung.webp")
        for k in (int(worst_slice(mask, reference)["slice"]), most_wrong(mask, reference)):
            worst.append((f"{name}, ", image, mask, reference, k))
    draw(worst, FIGURES / "lung_worst.webp")


if __name__ == "__main__":
    main()
