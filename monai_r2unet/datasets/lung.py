"""Prepare CT with lung masks for the ``lung`` bundle: public data sets as downloaded, or your own images."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_r2unet.datasets import kaggle, lctsc, luna16, pairs
from monai_r2unet.datasets.datalist import FILE_NAME, SPLITS, check_form, first_three, read_datalist, write_datalist
from monai_r2unet.datasets.layout import Layout, LungCase
from monai_r2unet.datasets.splits import draw_split, hold_out_validation, read_split_table
from monai_r2unet.datasets.volumes import finish_pair, same_size, split_ending
from monai_r2unet.errors import InputError
from monai_r2unet.images.sides import split_sides
from monai_r2unet.images.writing import write_image

__all__ = ["LAYOUTS", "prepare"]

LAYOUTS = {layout.name: layout for layout in (luna16.LAYOUT, lctsc.LAYOUT, kaggle.LAYOUT, pairs.LAYOUT)}
SIDES = ("right lung", "left lung")  # names of the labels 1 and 2
_logger = logging.getLogger(__name__)


def prepare(
    source: Path,
    dest: Path,
    *,
    layout: str | None = None,
    slices_per_case: int | None = None,
    rescale_intercept: float | None = None,
    split: Path | None = None,
    seed: int = 0,
    sides: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Convert a data set to the form that the ``lung`` bundle reads: NIfTI files and ``datalist.json`` in ``dest``.

    Images are written as int16 HU to ``images/``, masks as uint8 {0, 1}, with ``sides`` {0, 1, 2}, to ``labels/``:
    volumes (X, Y, Z) with the axial axis last, on the grid of the original. New cases are added to an existing data
    list; existing cases keep their files and their set, so that an interrupted run can be repeated and two data sets
    can be merged. No other existing file is overwritten; the data list is written last.

    Args:
        source: The data set as downloaded.
        dest: The folder to write to; created if it does not exist.
        layout: ``"luna16"``, ``"lctsc"``, ``"kaggle"`` or ``"pairs"``; None recognises it from the files.
        slices_per_case: Keep only that many axial slices of each volume, evenly spaced; None keeps all.
        rescale_intercept: Offset added to the image's values to get HU, for images that are not stored in HU.
        split: CSV file with the columns ``case`` (or ``id``) and ``split`` (train, val, test); only the listed cases
            are prepared. None: the data set's own split if it has one, for pairs a ``split*.csv`` in ``source``,
            otherwise a split drawn by patient.
        seed: Seed of the drawn split, or of the tenth of the training patients drawn for validation if there is none.
        sides: Label the right lung 1 and the left lung 2; without, both are 1.
        progress: Called as ``progress(done, total)`` after each case.

    Returns:
        The content of ``datalist.json``.

    Raises:
        InputError: if ``source`` fits no layout, lacks a mask, or holds an image and a mask that do not match; if the
            cases in ``dest`` have other labels.
    """
    _check_arguments(source, dest, slices_per_case, rescale_intercept)
    chosen = _choose_layout(source, layout)
    cases = chosen.cases(source)
    if not cases:
        raise InputError(f"there are no cases in {source}; the layout {chosen.name} expects {chosen.form}")
    datalist: dict[str, Any] = {"name": "lung", "description": "", "licence": "", "reference": ""}
    if (dest / FILE_NAME).exists():
        datalist |= read_datalist(dest)
    for name in SPLITS:
        check_form(dest / FILE_NAME, name, datalist.setdefault(name, []))

    _set_labels(datalist, dest, sides)
    sets = _divide(chosen, cases, split or _own_table(chosen, source), _known_patients(datalist), seed)
    cases = [case for case in cases if case.name in sets]
    present = {_stem(entry) for name in SPLITS for entry in datalist[name]}
    new = [case for case in cases if case.name not in present]
    if len(new) < len(cases):
        there = [case.name for case in cases if case.name in present]
        warnings.warn(
            f"{len(there)} of {len(cases)} cases are in {dest / FILE_NAME} already and stay as they are there: "
            f"{first_three(there)}",
            stacklevel=2,
        )

    for done, case in enumerate(new, start=1):
        datalist[sets[case.name]].append(_convert(case, dest, slices_per_case, rescale_intercept, sides))
        if progress is not None:
            progress(done, len(new))
    if new:
        for key in ("description", "licence", "reference"):
            datalist[key] = _joined(datalist[key], getattr(chosen, key))
        write_datalist(dest, datalist)
    return datalist


def _set_labels(datalist: dict[str, Any], dest: Path, sides: bool) -> None:
    """Name the labels of a data list that has several, and keep it from having masks of both kinds."""
    present = any(datalist[name] for name in SPLITS)
    if present and ("labels" in datalist) != sides:
        kind = "two labels, right and left lung" if "labels" in datalist else "one label"
        raise InputError(f"the masks in {dest} have {kind}: choose another folder, or the same labels")
    if sides:
        datalist["labels"] = list(SIDES)


def _check_arguments(source: Path, dest: Path, slices_per_case: int | None, rescale_intercept: float | None) -> None:
    if not source.is_dir():
        raise InputError(f"the source {source} is not a folder; name the folder with the unpacked data set")
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file; name a folder to write to")
    if dest.resolve() == source.resolve():
        raise InputError(f"source and destination are both {source}; write to another folder")
    if slices_per_case is not None and slices_per_case < 1:
        raise InputError(f"slices per case is {slices_per_case}; it must be 1 or more")
    if rescale_intercept is not None and not math.isfinite(rescale_intercept):
        raise InputError(f"the rescale intercept is {rescale_intercept}; it must be a number, such as -1024")


def _choose_layout(source: Path, name: str | None) -> Layout:
    if name is not None:
        if name not in LAYOUTS:
            raise InputError(f'there is no layout "{name}"; use {", ".join(LAYOUTS)}')
        return LAYOUTS[name]
    matching = [layout for layout in LAYOUTS.values() if layout.matches(source)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = " and ".join(layout.name for layout in matching)
        raise InputError(
            f"{source} fits the layouts {names}: keep the files of one",
            remedy="choose a layout",
            option="layout",
            value=matching[0].name,
        )
    found = sorted(path.name + ("/" if path.is_dir() else "") for path in source.iterdir())
    forms = "".join(f"\n  {layout.name}: {layout.form}" for layout in LAYOUTS.values())
    raise InputError(f"{source} fits no layout, it holds {first_three(found) or 'nothing'}; the layouts are:{forms}")


def _own_table(layout: Layout, source: Path) -> Path | None:
    tables = sorted(source.glob("split*.csv")) if layout is pairs.LAYOUT else []
    if len(tables) > 1:
        raise InputError(
            f"{source} has {len(tables)} split files ({first_three(t.name for t in tables)}): keep one",
            remedy="choose one",
            option="split",
            value=tables[0],
        )
    return tables[0] if tables else None


def _divide(
    layout: Layout, cases: Sequence[LungCase], table: Path | None, known: dict[str, str], seed: int
) -> dict[str, str]:
    """Find the set of each case by its name; cases to be left out are missing from the result."""
    if table is not None:
        listed = read_split_table(table)
        names = {case.name for case in cases}
        absent = sorted(set(listed) - names)
        if len(absent) == len(listed):
            raise InputError(
                f"the split file {table} lists none of the cases, which are {first_three(sorted(names))}; "
                "its first column must hold their names"
            )
        if absent:
            _logger.warning("%s lists cases without files, left out (%d): %s", table, len(absent), first_three(absent))
        cases = [case for case in cases if case.name in listed]
        sets: dict[str, str] = {}
        for case in cases:
            if sets.setdefault(case.patient, listed[case.name]) != listed[case.name]:
                raise InputError(
                    f"the split file {table} puts cases of {case.patient} into two sets ({case.name} is one of them); "
                    "keep the cases of a patient together"
                )
    else:
        drawn = draw_split((c.patient for c in cases if c.split is None), layout.validation, layout.test, seed)
        sets = {case.patient: case.split or drawn[case.patient] for case in cases}
    sets = hold_out_validation(sets, seed) | {patient: name for patient, name in known.items() if patient in sets}
    return {case.name: sets[case.patient] for case in cases}


def _known_patients(datalist: dict[str, Any]) -> dict[str, str]:
    """Find the sets of the patients in the data list: their later cases go to the same set."""
    return {entry.get("patient", _stem(entry)): name for name in SPLITS for entry in datalist[name]}


def _stem(entry: dict[str, str]) -> str:
    return split_ending(Path(entry["image"]))[0]


def _convert(
    case: LungCase, dest: Path, slices: int | None, rescale_intercept: float | None, sides: bool
) -> dict[str, str]:
    entry = {"image": f"images/{case.name}.nii.gz", "label": f"labels/{case.name}.nii.gz"}
    image_path, label_path = dest / entry["image"], dest / entry["label"]
    kept = [path for path in (image_path, label_path) if path.exists()]
    if len(kept) < 2:
        image, label = finish_pair(*case.read(), case.name, slices, rescale_intercept)
        label = split_sides(image, label) if sides else label
        for volume, path in ((image, image_path), (label, label_path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path not in kept:
                write_image(volume, path)
    if kept and not same_size(image_path, label_path):
        raise InputError(
            f"{image_path} and {label_path} already exist and do not match; remove them or choose another folder"
        )
    # Without other information, the file name identifies the patient.
    return entry | ({"patient": case.patient} if case.patient != case.name else {})


def _joined(text: str, addition: str) -> str:
    return text if addition in text else "; ".join(filter(None, (text, addition)))
