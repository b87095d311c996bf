"""Quality control of a case: its picture, and how doubtful its mask is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.files import written_whole
from monai_r2unet.images.overview import LUNG_WINDOW, overview
from monai_r2unet.images.writing import check_place
from monai_r2unet.inference.cohort_records import CaseResult
from monai_r2unet.inference.quality_page import PageEntry
from monai_r2unet.inference.segmentation import Segmentation

__all__ = ["check_picture", "doubt", "page_entries", "write_picture"]

FACTS = {
    "volume_ml": "{:.0f} mL",
    "mean_hu": "mean {:.0f} HU",
    "p15_hu": "15th percentile {:.0f} HU",
    "laa950_percent": "below -950 HU {:.1f} %",
    "opacified_percent": "opacified {:.1f} %",
}


def doubt(result: Segmentation) -> float:
    """How doubtful a mask is, from 0 to 1, judged by its own probabilities.

    1 - 2 sum(p m) / (sum(p) + sum(m)), the Dice to be expected if each probability p is right, averaged over the labels
    that are, or are expected to be, in the mask m; 1 for an empty mask.

    Args:
        result: The result, with its probabilities.
    """
    if result.probabilities is None:
        raise ValueError("the doubt is computed from the probabilities: segment with probabilities=True")
    if not result.voxels:
        return 1.0
    mask = sitk.GetArrayViewFromImage(result.mask)
    probabilities = sitk.GetArrayViewFromImage(result.probabilities)
    if probabilities.ndim == mask.ndim:
        probabilities = probabilities[..., None]
    expected = []
    for value in range(1, probabilities.shape[-1] + 1):
        where, probability = mask == value, probabilities[..., value - 1]
        total = float(probability.sum(dtype=np.float64)) + np.count_nonzero(where)
        if total >= 1:
            expected.append(2 * float(probability.sum(dtype=np.float64, where=where)) / total)
    return 1 - float(np.mean(expected))


def check_picture(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check, before any work is done, that a picture can be written to ``path``.

    Raises:
        InputError: another ending than ``.png``, an existing file, or a folder that is missing or not writable.
    """
    if not os.fspath(path).lower().endswith(".png"):
        raise InputError(f"{path} has an unknown ending, expected .png for the picture of a case: rename it")
    check_place(path, overwrite=overwrite)


def write_picture(image: sitk.Image, result: Segmentation, bundle: Bundle, path: Path) -> None:
    """Write the picture of a case atomically, as PNG.

    Raises:
        OutputError: the disk is full or failed.
    """
    window = LUNG_WINDOW if bundle.image_format.get("format") == "hounsfield" else None
    with written_whole(path, ".png") as temporary:
        overview(image, result.mask, bundle.labels, window).save(temporary)


def page_entries(records: Iterable[CaseResult], folder: Path) -> list[PageEntry]:
    """What the page in ``folder`` shows of each case."""
    return [_entry(record, folder) for record in records]


def _entry(record: CaseResult, folder: Path) -> PageEntry:
    failed = record.status == "failed"
    picture = record.details.get("picture")
    return PageEntry(
        record.case,
        picture if picture is not None and (folder / picture).is_file() else None,
        None if failed else record.details.get("doubt"),
        _facts(record),
        [] if failed or not record.message else record.message.split("; "),
        record.message if failed else "",
    )


def _facts(record: CaseResult) -> dict[str, str]:
    densities = record.details.get("densitometry", {})
    facts = {
        name: ", ".join(shown.format(numbers[key]) for key, shown in FACTS.items() if numbers[key] is not None)
        for name, numbers in densities.items()
    }
    labels = [] if densities else record.details.get("labels", [])
    for label in labels:
        millilitres = label["millilitres"]
        facts[label["name"]] = f"{label['voxels']} pixels" if millilitres is None else f"{millilitres:.1f} mL"
    return facts
