"""Forms of a data set: two folders with the same file names, a data list, or a ``dataset.json``."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_r2unet.bundle import is_label
from monai_r2unet.datasets.datalist import FILE_NAME, SPLITS, check_form, first_three, read_datalist
from monai_r2unet.errors import InputError
from monai_r2unet.images.formats import stem_of

__all__ = ["Case", "Source", "find_cases"]

MASK_FOLDERS = ("masks", "labels", "mask", "label", "segmentations")
FORMS = (
    "a folder with images/ and masks/ (or labels/) whose files have the same names, a dataset.json of the Medical "
    f"Segmentation Decathlon or nnU-Net, or a {FILE_NAME}"
)


@dataclass(frozen=True)
class Case:
    """An image and its mask.

    Args:
        name: Name of the image's file without its ending.
        image: Path of the image.
        label: Path of the mask.
        split: ``"training"``, ``"validation"`` or ``"test"``, if the data set says so.
        patient: The patient, if the data set says so.
    """

    name: str
    image: Path
    label: Path
    split: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set as its owner keeps it.

    Args:
        cases: Its images with masks.
        form: The form it was recognised as.
        labels: Names of the labels with the values 1, 2, ..., if the data set names them.
        modality: What the data set calls its images; empty if it does not.
        appearance: Colour (RGB, 0 to 255) and terminology of labels, by their names, if the data set has them.
    """

    cases: list[Case]
    form: str
    labels: tuple[str, ...] = ()
    modality: str = ""
    appearance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def find_cases(source: Path) -> Source:
    """Recognise the form of a data set and list its cases.

    Args:
        source: Its folder, or its ``dataset.json`` or ``datalist.json``.

    Raises:
        InputError: no form fits, or an image has no mask.
    """
    if not source.exists():
        raise InputError(f"the source {source} does not exist, expected {FORMS}: check the path")
    folder = source if source.is_dir() else source.parent
    named = source.name if source.is_file() else None
    if named not in (None, FILE_NAME, "dataset.json"):
        raise InputError(f"the source {source} is a file, expected {FORMS}: name the folder")
    if named == FILE_NAME or (named is None and (folder / FILE_NAME).is_file()):
        found = _of_datalist(folder)
    elif (folder / "dataset.json").is_file():
        found = _of_dataset(folder)
    else:
        found = _of_folders(folder)
    missing = [path for case in found.cases for path in (case.image, case.label) if not path.exists()]
    if missing:
        raise InputError(
            f"{len(missing)} of the files that {source} names do not exist: {first_three(missing)}; restore them, or "
            "remove their entries"
        )
    if not found.cases:
        raise InputError(f"{source} holds no image with a mask, expected {FORMS}: add some")
    _check_apart(found.cases, source)
    return replace(found, cases=_with_names_of_their_own(found.cases))


def _check_apart(cases: Sequence[Case], source: Path) -> None:
    """Refuse an image that is named twice, and a patient in two sets."""
    images = Counter(os.path.normpath(case.image) for case in cases)
    if len(images) == 1:  # in the data list that `new` writes of it, it validates its own training
        return
    twice = [image for image, count in images.items() if count > 1]
    if twice:
        raise InputError(f"{source} names {len(twice)} images twice: {first_three(twice)}; keep one entry of each")
    sets: dict[str, str | None] = {}
    for case in cases:
        if case.patient and sets.setdefault(case.patient, case.split) != case.split:
            raise InputError(
                f"{source} puts the images of {case.patient} into two sets ({case.image} is one of them): keep those "
                "of a patient together"
            )


def _with_names_of_their_own(cases: list[Case]) -> list[Case]:
    """The cases; where files in several folders have one name, with those folders before it."""
    if len({case.name for case in cases}) == len(cases):
        return cases
    folder = os.path.commonpath([case.image.parent.absolute() for case in cases])
    return [replace(case, name=str(case.image.absolute().relative_to(folder))) for case in cases]


def _of_folders(folder: Path) -> Source:
    masks_in = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(masks_in) > 1:
        there = " and ".join(f"{path.name}/" for path in masks_in)
        raise InputError(f"{folder} holds {there}, expected one folder of masks: keep one, or rename the other")
    if not (folder / "images").is_dir() or not masks_in:
        found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        raise InputError(
            f"{folder} holds {first_three(found) or 'nothing'}, expected {FORMS}: arrange the files like that"
        )
    images, masks = _images(folder / "images"), _images(masks_in[0])
    for these, others, what in ((images, masks, "mask"), (masks, images, "image")):
        alone = sorted(these.keys() - others.keys())
        if alone:
            raise InputError(
                f"{len(alone)} of {len(these)} files have no {what} of the same name in {folder}: {first_three(alone)}"
                "; rename or remove them"
            )
    return Source(
        [Case(name, images[name], masks[name]) for name in sorted(images)], f"images/ and {masks_in[0].name}/"
    )


def _images(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without endings; a folder with a DICOM series is an image, too."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name if path.is_dir() else stem_of(path)
        if path.name.startswith(".") or name is None:
            continue
        if name in found:
            raise InputError(f"{found[name].name} and {path.name} in {folder} have the same name: keep one of them")
        found[name] = path
    return found


def _of_datalist(folder: Path) -> Source:
    content = read_datalist(folder)
    cases = []
    for split in SPLITS:
        entries = content.get(split, [])
        if split == "test" and isinstance(entries, list):  # without those that are still to be segmented
            entries = [entry for entry in entries if not _is_unlabelled(entry)]
        check_form(folder / FILE_NAME, split, entries)
        for entry in entries:
            image, label = Path(folder, entry["image"]), Path(folder, entry["label"])
            patient = str(entry.get("patient") or "") or None
            cases.append(Case(stem_of(image) or image.name, image, label, split, patient))
    names = content.get("labels")
    if isinstance(names, dict):  # as in a dataset.json
        return Source(cases, FILE_NAME, _names(names, folder / FILE_NAME))
    return Source(cases, FILE_NAME, _listed(names, folder / FILE_NAME) if isinstance(names, list) else ())


def _is_unlabelled(entry: object) -> bool:
    """Whether an entry of a test set has an image only; the Medical Segmentation Decathlon gives its path alone."""
    return isinstance(entry, str) or (isinstance(entry, dict) and "label" not in entry)


def _of_dataset(folder: Path) -> Source:
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): repair it") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(f"{path} names no labels, expected an object with labels: add them")
    channels = content.get("channel_names", content.get("modality", {}))
    if isinstance(channels, Mapping) and len(channels) > 1:
        raise InputError(
            f"{path} names {len(channels)} channels ({first_three(channels.values())}), but a network here takes one "
            "grey image or RGB: keep the channel that shows the labels best"
        )
    modality = str(next(iter(channels.values()))) if isinstance(channels, Mapping) and channels else ""
    labels = _names(content["labels"], path)
    if isinstance(content.get("training"), list):
        check_form(path, "training", content["training"])
        pairs = [(Path(folder, entry["image"]), Path(folder, entry["label"])) for entry in content["training"]]
        patients = [str(entry.get("patient") or "") or None for entry in content["training"]]
        cases = [
            Case(stem_of(image) or image.name, image, label, patient=patient)
            for (image, label), patient in zip(pairs, patients, strict=True)
        ]
        form = "dataset.json of the Medical Segmentation Decathlon"
        return Source(cases, form, labels, modality, _appearance(content.get("appearance", {}), path))
    for name in ("imagesTr", "labelsTr"):
        if not (folder / name).is_dir():
            raise InputError(f"{folder} has no {name}/, which a dataset.json of nnU-Net needs: restore it")
    images = {re.sub(r"_0000$", "", name): image for name, image in _images(folder / "imagesTr").items()}
    masks = _images(folder / "labelsTr")
    for these, others, what, lacking in ((masks, images, "masks", "image"), (images, masks, "images", "mask")):
        alone = sorted(these.keys() - others.keys())
        if alone:
            raise InputError(
                f"{len(alone)} {what} in {folder} have no {lacking}: {first_three(alone)}; restore what is missing, or "
                "take them out"
            )
    cases = [Case(name, images[name], masks[name]) for name in sorted(masks)]
    return Source(cases, "dataset.json of nnU-Net", labels, modality)


def _appearance(appearance: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Colour and terminology by label's name, as 3D Slicer's extension writes them."""
    if not isinstance(appearance, dict) or not all(isinstance(one, dict) for one in appearance.values()):
        raise InputError(f"{path} has an appearance of another form, expected an object for each label: remove it")
    parts = ("colour", "terminology")
    found = {name: {part: one[part] for part in parts if part in one} for name, one in appearance.items()}
    for name, one in found.items():
        if not is_label({"value": 1, "name": name, "colour": [0, 0, 0], **one}):
            raise InputError(
                f"{path} has an appearance of {name!r} that cannot be used, expected colour (three numbers from 0 to "
                "255) and terminology (codes of texts): correct or remove it"
            )
    return found


def _listed(names: list[Any], path: Path) -> tuple[str, ...]:
    """The names of the labels with the values 1, 2, ... in a list."""
    texts = [name.lower() for name in names if isinstance(name, str)]
    if len(texts) < len(names) or len(set(texts)) < len(texts) or "background" in texts:
        raise InputError(
            f"{path} has labels {json.dumps(names)}, expected different names of the values 1, 2, ..., without the "
            "background: correct them"
        )
    return tuple(names)


def _names(labels: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names by value, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net)."""
    try:
        decathlon = all(str(key).isdigit() for key in labels)
        by_value = {int(key if decathlon else value): str(value if decathlon else key) for key, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} has labels {json.dumps(labels)}, expected a value for each name; regions of several labels "
            "overlap, which a bundle here cannot hold: keep labels that do not overlap"
        ) from error
    if len(by_value) < len(labels):
        raise InputError(f"{path} has labels {json.dumps(labels)}, of which some share a value: give each its own")
    values = sorted(value for value in by_value if value > 0)
    if values != list(range(1, len(values) + 1)):
        raise InputError(f"{path} has labels with the values {values}, expected 1, 2, ...: renumber them")
    return _listed([by_value[value] for value in values], path)
