"""The verb ``evaluate``: measures of a mask against its reference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from monai_r2unet.apps.cli.terminal import EXIT_DONE
from monai_r2unet.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a mask against its reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("prediction", help="mask")
    parser.add_argument("reference", help="reference mask on the same grid")
    parser.add_argument("--json", metavar="FILE", help="also write the measures to a file")
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")


def run(options: argparse.Namespace) -> int:
    """Measure a mask against its reference."""
    import SimpleITK as sitk

    from monai_r2unet.files import write_json
    from monai_r2unet.images.grid import same_grid
    from monai_r2unet.images.reading import read_image
    from monai_r2unet.images.writing import check_place
    from monai_r2unet.metrics.measures import evaluate_case, summarize
    from monai_r2unet.metrics.tables import format_summary
    from monai_r2unet.provenance import versions

    if options.json:
        check_place(options.json, overwrite=options.overwrite)
    prediction, reference = read_image(options.prediction), read_image(options.reference)
    if not same_grid(prediction, reference):
        raise InputError(
            f"{options.prediction} ({_grid(prediction)}) and {options.reference} ({_grid(reference)}) do not lie on "
            "the same grid; give masks of the same image"
        )
    case = evaluate_case(
        Path(options.prediction).name,
        sitk.GetArrayFromImage(prediction),
        sitk.GetArrayFromImage(reference),
    )
    summary = summarize([case])
    if options.json:
        inputs = {"prediction": str(options.prediction), "reference": str(options.reference)}
        write_json({**inputs, "versions": versions(), **summary}, options.json)
    print(format_summary(summary))
    return EXIT_DONE


def _grid(image: sitk.Image) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in image.GetSpacing())
    return f"{' x '.join(map(str, image.GetSize()))} voxels of {spacing} mm"
