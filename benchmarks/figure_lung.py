"""Draw the README's figure: three slices of a test case with the mask from the shipped weights and the manual mask.

MONAI_R2UNET_DATA=<data> python -m benchmarks.figure_lung
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import SimpleITK as sitk

from benchmarks.records import REPOSITORY
from monai_r2unet import Segmenter
from monai_r2unet.images.agreement import agreement_colours
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import confusion
from monai_r2unet.metrics.figures import agreement_legend

matplotlib.use("Agg")
from matplotlib import pyplot

FIGURE = REPOSITORY / "docs" / "figures" / "lung.webp"


def main() -> None:
    """Segment LCTSC_007 and draw it."""
    volumes = Path(os.environ["MONAI_R2UNET_DATA"]) / "volumes"
    image = read_image(volumes / "LCTSC_007_dicom")
    mask = sitk.GetArrayFromImage(Segmenter("lung")(image)) > 0
    reference = sitk.GetArrayFromImage(read_image(volumes / "LCTSC_007_lung.nii.gz")) > 0
    grey = np.clip((sitk.GetArrayFromImage(image).astype(np.float32) + 1000) / 1400, 0, 1)
    lung = np.flatnonzero(reference.any(axis=(1, 2)))

    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5.4), layout="constrained")
    for column, quantile in zip(axes.T, (0.25, 0.5, 0.75), strict=True):
        k = int(np.quantile(lung, quantile))
        dice = confusion(mask[k], reference[k]).dice
        rows = slice(60, 420)  # without the air above and the couch below
        column[0].imshow(grey[k][rows], cmap="gray", vmin=0, vmax=1)
        column[1].imshow(agreement_colours(grey[k], mask[k], reference[k])[rows])
        column[0].set_title(f"slice {k + 1} of {len(mask)}, Dice {dice:.3f}", fontsize=10)
        for axis in column:
            axis.set_axis_off()
    agreement_legend(figure)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=100, pil_kwargs={"quality": 90, "method": 6})


if __name__ == "__main__":
    main()
