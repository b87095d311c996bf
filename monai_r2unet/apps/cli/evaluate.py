"""The verb ``evaluate``: measures of a mask against its reference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_r2unet.apps.cli.terminal import EXIT_DONE, say
from monai_r2unet.bundle import MOST_LABELS
from monai_r2unet.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a mask against its reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("prediction", help="mask, or folder of masks")
    parser.add_argument(
        "reference", help="reference mask on the same grid, or folder of references with the same names"
    )
    parser.add_argument("--bundle", help="bundle (name or folder) whose label names are shown")
    parser.add_argument("--foreground", action="store_true", help="measure all labels together, as one")
    parser.add_argument("--json", metavar="FILE", help="also write the measures to a file")
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")


def run(options: argparse.Namespace) -> int:
    """Measure a mask against its reference, or each mask of a folder."""
    from monai_r2unet.files import write_json
    from monai_r2unet.images.writing import check_place
    from monai_r2unet.metrics.arrays import foreground_of
    from monai_r2unet.metrics.labels import evaluate_labels, summarize_labels
    from monai_r2unet.metrics.measures import evaluate_case, summarize
    from monai_r2unet.metrics.tables import format_summary
    from monai_r2unet.provenance import versions

    if options.json:
        check_place(options.json, overwrite=options.overwrite)
    pairs = _pairs(Path(options.prediction), Path(options.reference))
    masks = [_masks(path, reference) for path, reference in pairs]
    names = [path.name for path, _ in pairs]
    if options.foreground:
        labels = ["foreground"]
        masks = [
            (foreground_of(found, "the prediction"), foreground_of(expected, "the reference"))
            for found, expected in masks
        ]
    else:
        labels = _labels(options, [mask for both in masks for mask in both])
    if len(labels) > 1:
        _tell_of_lone_label(masks)
        measured = [evaluate_labels(name, *both, labels) for name, both in zip(names, masks, strict=True)]
        summary = summarize_labels([cases for cases, _ in measured], [table for _, table in measured], labels)
    else:
        summary = summarize(evaluate_case(name, *both) for name, both in zip(names, masks, strict=True))
    if options.json:
        inputs = {"prediction": str(options.prediction), "reference": str(options.reference)}
        write_json({**inputs, "versions": versions(), **summary}, options.json)
    print(format_summary(summary))
    return EXIT_DONE


def _pairs(prediction: Path, reference: Path) -> list[tuple[Path, Path]]:
    """The mask and its reference, or the masks of two folders that have the same name but for the ending."""
    if not (prediction.is_dir() and reference.is_dir()):
        return [(prediction, reference)]
    from monai_r2unet.datasets.datalist import first_three

    predictions, references = _masks_of(prediction), _masks_of(reference)
    missing = sorted(references.keys() - predictions.keys())
    if missing or not references:
        raise InputError(
            f"{len(missing)} of the {len(references)} references in {reference} have no mask of the same name in "
            f"{prediction} ({first_three(missing) or 'there are none'}): segment these images too, or remove their "
            "references"
        )
    others = sorted(predictions.keys() - references.keys())
    if others:
        say(
            f"warning: {len(others)} of the masks in {prediction} have no reference and are left out: "
            f"{first_three(others)}"
        )
    return [(predictions[name], references[name]) for name in sorted(references)]


def _masks_of(folder: Path) -> dict[str, Path]:
    """The masks of a folder by name; of several with one name, such as one mask in two formats, the first."""
    from monai_r2unet.datasets.datalist import first_three
    from monai_r2unet.images.formats import stem_of
    from monai_r2unet.images.masks import preview_of

    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    previews = {preview_of(path) for path in paths}
    found: dict[str, Path] = {}
    others: list[str] = []
    for path in paths:
        name = stem_of(path)
        if name is None or path in previews:
            continue
        if found.setdefault(name.removesuffix(".seg"), path) != path:
            others.append(path.name)
    if others:
        say(
            f"warning: {len(others)} of the masks in {folder} have the name of another and are left out: "
            f"{first_three(others)}"
        )
    return found


def _masks(prediction: Path, reference: Path) -> tuple[Any, Any]:
    """The values of a mask and its reference.

    Raises:
        InputError: they do not lie on the same grid.
    """
    from monai_r2unet.images.grid import same_grid
    from monai_r2unet.images.reading import read_image

    images = read_image(prediction), read_image(reference)
    if not same_grid(*images):
        raise InputError(
            f"{prediction} ({_grid(images[0])}) and {reference} ({_grid(images[1])}) do not lie on the same grid; give "
            "masks of the same image"
        )
    return _values(images[0], prediction), _values(images[1], reference)


def _values(mask: sitk.Image, path: Path) -> Any:
    """The values of a mask; one that was saved in colour must be grey."""
    import SimpleITK as sitk

    from monai_r2unet.images.label_values import grey_of

    values = sitk.GetArrayFromImage(mask)
    return grey_of(values, path) if mask.GetNumberOfComponentsPerPixel() > 1 else values


def _tell_of_lone_label(masks: list[tuple[Any, Any]]) -> None:
    """Warn if the masks have several labels and their references one, or the other way round."""
    import numpy as np

    predicted, expected = (set().union(*(np.unique(both[side]).tolist() for both in masks)) - {0} for side in (0, 1))
    if min(len(predicted), len(expected)) == 1 < max(len(predicted), len(expected)):
        say(
            f"warning: {_counted(predicted, 'mask')}, {_counted(expected, 'reference')}: --foreground measures all "
            "labels together"
        )


def _counted(labels: set[Any], where: str) -> str:
    return f"the {where} has {len(labels)} label{'s'[: len(labels) > 1]}"


def _labels(options: argparse.Namespace, masks: list[Any]) -> list[str]:
    """Names of the labels: those of the bundle, or the values that the masks hold; one name where there is one label.

    A single label may have another value in each mask, as 1 and 255.
    """
    import numpy as np

    if options.bundle:
        from monai_r2unet.bundle import find_bundle

        return list(find_bundle(options.bundle, trusted=True).label_names)
    found = [set(np.unique(mask).tolist()) - {0} for mask in masks]
    most = max(map(len, found))
    if most < 2:
        return ["foreground"]
    highest = max(set.union(*found))
    if not 2 <= highest <= MOST_LABELS:
        return ["foreground"]  # no labels: what the values are is checked where they are measured
    return [f"label {value}" for value in range(1, int(highest) + 1)]


def _grid(image: sitk.Image) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in image.GetSpacing())
    return f"{' x '.join(map(str, image.GetSize()))} voxels of {spacing} mm"
