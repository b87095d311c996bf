"""What a data set holds: every image and mask is read and checked, and what a plan needs is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from monai_r2unet.apps.planning.sources import Case, Source
from monai_r2unet.bundle import MOST_LABELS
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.label_values import checked_labels, distinct_values, grey_of, shown_values
from monai_r2unet.images.reading import read_image

__all__ = ["MODALITIES", "Measured", "Survey", "survey"]

MODALITIES = ("ct", "mr", "grey", "rgb")
SAMPLED = 20_000  # voxels of the foreground of an image whose values are kept


@dataclass(frozen=True)
class Measured:
    """What was measured of one case.

    Args:
        case: The case.
        size: Voxels along each axis; two of a picture.
        spacing: mm along each axis; ones of a picture.
        voxels: Number of voxels of each label.
        thickness: Mean thickness of the foreground in pixels: twice its area over its outline.
    """

    case: Case
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    voxels: tuple[int, ...]
    thickness: float


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Args:
        source: The data set.
        labels: Names of the labels with the values 1, 2, ...
        modality: One of `MODALITIES`.
        guessed: Reason for a guessed modality; empty if it was given.
        cases: The cases, measured.
        foreground: Percentiles 0.5, 50 and 99.5 of the values inside the labels.
    """

    source: Source
    labels: tuple[str, ...]
    modality: str
    guessed: str
    cases: list[Measured]
    foreground: tuple[float, float, float]

    @property
    def volumes(self) -> bool:
        """Whether the images are volumes, not pictures."""
        return len(self.cases[0].size) == 3


def survey(
    source: Source,
    labels: Sequence[str] = (),
    modality: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Survey:
    """Read and check every image and mask of a data set.

    Args:
        source: The data set.
        labels: Names of the labels; empty: those of the data set, or numbers.
        modality: One of `MODALITIES`; None: guessed from the values.
        progress: Called as ``progress(done, total)`` after each case.

    Raises:
        InputError: an image or mask cannot be read; their sizes or grids differ; a file is not a mask or holds other
            labels; all masks are empty; or a label is in none of them.
    """
    names = tuple(labels) or source.labels
    for name in names:
        if name[:1] in ("$", "@", "%"):  # in a configuration these would be evaluated
            raise InputError(f"the label {name!r} begins with {name[0]}, expected a letter or a digit: rename it")
    unnamed = [] if names else source.cases  # whose masks are read twice: first to count their labels
    total = len(unnamed) + len(source.cases)
    found = []
    for done, case in enumerate(unnamed, start=1):
        found.append(distinct_values(_mask_values(read_image(case.label), case)))
        if progress is not None:
            progress(done, total)
    count = len(names) or _number_of_labels(found)
    if len(labels) and source.labels and len(labels) != len(source.labels):
        raise InputError(f"--labels names {len(labels)}, but {source.form} has {len(source.labels)}: name each of them")
    if count > MOST_LABELS:
        raise InputError(f"the masks hold {count} labels, but {MOST_LABELS} is the most a bundle can have: merge some")
    names = names or tuple(f"label {value}" for value in range(1, count + 1)) if count > 1 else names or ("foreground",)

    measured: list[Measured] = []
    samples, reaches = [], []
    for done, case in enumerate(source.cases, start=1):
        image, mask = read_image(case.image), read_image(case.label)
        one, values = _measure(case, image, mask, count)
        if measured and len(one.size) != len(measured[0].size):
            raise InputError(f"{case.image} is {len(one.size)}D, but {measured[0].case.image} is not: keep one kind")
        measured.append(one)
        samples.append(values)
        reaches.append(_reach(image))
        if progress is not None:
            progress(len(unnamed) + done, total)
    _check_labels_occur(measured, names)
    seen, why = _guess(reaches, len(measured[0].size))
    if source.modality[:2].lower() in ("ct", "mr") and seen in ("ct", "mr"):
        seen, why = source.modality[:2].lower(), f"{source.form} says {source.modality}"
    if modality is not None:
        _check_modality(modality, reaches, measured)
    inside = np.concatenate(samples)
    low, middle, high = (float(value) for value in np.percentile(inside, (0.5, 50, 99.5)))
    return Survey(source, names, modality or seen, "" if modality else why, measured, (low, middle, high))


def _number_of_labels(found: Sequence[npt.NDArray[Any]]) -> int:
    """The highest value, or 1 if every mask has the same single value, such as 255."""
    distinct = np.unique(np.concatenate(found))
    if distinct[0] < 0:
        raise InputError(
            f"the masks hold negative values ({shown_values(distinct)}), expected 0, 1, 2, ...: correct them"
        )
    values = distinct[distinct > 0]
    if values.size == 0:
        raise InputError(f"all {len(found)} masks are empty, so there is nothing to learn: check what was exported")
    if values.size == 1 or max(one.size for one in found) > MOST_LABELS / 8:  # or smoothed edges: judged mask by mask
        return 1
    if values[-1] != values.size:
        raise InputError(
            f"the masks hold the values {shown_values(np.concatenate([[0], values]))}, expected 0, 1, 2, ... without "
            "gaps: renumber them"
        )
    return int(values[-1])


def _mask_values(mask: sitk.Image, case: Case) -> npt.NDArray[Any]:
    values = sitk.GetArrayFromImage(mask)
    return grey_of(values, case.label) if mask.GetNumberOfComponentsPerPixel() > 1 else values


def _measure(case: Case, image: sitk.Image, mask: sitk.Image, labels: int) -> tuple[Measured, npt.NDArray[Any]]:
    if image.GetSize() != mask.GetSize():
        raise InputError(
            f"{case.image} has {_shown(image.GetSize())} voxels, but its mask {case.label} has "
            f"{_shown(mask.GetSize())}: export both on one grid"
        )
    if image.GetDimension() == 3 and not same_grid(image, mask):
        raise InputError(
            f"{case.image} and its mask {case.label} have the same size but differ in position: the mask must have the "
            "image's origin, spacing and direction"
        )
    values = checked_labels(_mask_values(mask, case), labels, case.label)
    pixels = sitk.GetArrayFromImage(image)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{case.image} has values that are NaN or infinite: repair it, or leave the case out")
    inside = pixels[values > 0].reshape(-1)
    step = max(1, inside.size // SAMPLED)
    voxels = tuple(int((values == value).sum()) for value in range(1, labels + 1))
    measured = Measured(case, image.GetSize(), image.GetSpacing(), voxels, _thickness(values > 0))
    return measured, inside[::step].astype(np.float64)


def _thickness(foreground: npt.NDArray[np.bool_]) -> float:
    """Twice the area over the outline, in the last two axes; infinite without foreground."""
    edges = np.count_nonzero(foreground[..., 1:, :] != foreground[..., :-1, :])
    edges += np.count_nonzero(foreground[..., 1:] != foreground[..., :-1])
    return 2 * np.count_nonzero(foreground) / edges if edges else float("inf")


def _reach(image: sitk.Image) -> tuple[int, float, float]:
    """Number of values per voxel, the lowest and the highest value."""
    values = sitk.GetArrayViewFromImage(image)
    return image.GetNumberOfComponentsPerPixel(), float(values.min()), float(values.max())


def _guess(reaches: Sequence[tuple[int, float, float]], dimension: int) -> tuple[str, str]:
    """The modality, and why."""
    channels = {components for components, _, _ in reaches}
    if len(channels) > 1 or not channels <= {1, 3}:
        raise InputError(
            f"the images have {sorted(channels)} values per voxel, expected 1 in all, or 3 (RGB): convert them"
        )
    low, high = min(one[1] for one in reaches), max(one[2] for one in reaches)
    reach = f"values from {low:g} to {high:g}"
    if channels == {3}:
        return "rgb", "three values per pixel"
    if dimension == 2:
        return "grey", f"pictures with one value per pixel, {reach}"
    if low <= -300 and high > 0:
        return "ct", f"{reach}, as Hounsfield units have"
    return "mr", f"volumes with {reach}, which are not Hounsfield units"


def _check_modality(modality: str, reaches: Sequence[tuple[int, float, float]], cases: Sequence[Measured]) -> None:
    guessed, why = _guess(reaches, len(cases[0].size))
    if (modality == "rgb") != (guessed == "rgb"):
        raise InputError(f"--modality is {modality}, but the images have {why}: leave it out, or convert the images")
    if modality == "ct" and len(cases[0].size) == 2:
        raise InputError(
            "--modality is ct, but the images are pictures, which have no size in mm: give them as NIfTI or DICOM"
        )


def _check_labels_occur(cases: Sequence[Measured], names: Sequence[str]) -> None:
    totals = np.sum([one.voxels for one in cases], axis=0)
    if not totals.any():
        raise InputError(f"all {len(cases)} masks are empty, so there is nothing to learn: check what was exported")
    absent = [f"{name} ({value})" for value, name in enumerate(names, 1) if totals[value - 1] == 0]
    if absent:
        raise InputError(
            f"{', '.join(absent)} of {len(names)} labels are in no mask: leave them out and renumber the others, or "
            "add images that show them"
        )


def _shown(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
