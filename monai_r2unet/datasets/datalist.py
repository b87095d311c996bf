"""The data list: which image belongs to which label and to which of the three sets.

``datalist.json`` lies in the data folder and follows the Medical Segmentation Decathlon; its paths are relative to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

from monai_r2unet.errors import InputError

__all__ = ["FILE_NAME", "SPLITS", "check_form", "first_three", "load_datalist", "read_datalist", "write_datalist"]

FILE_NAME = "datalist.json"
SPLITS = ("training", "validation", "test")
_REQUIRED = ("image", "label")
_PATHS = ("image", "label", "label_2", "fov")
_FORM = (
    '{"training": [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}], "validation": [...], "test": [...]} '
    "with paths relative to the folder"
)

Entry = dict[str, str]


@overload
def load_datalist(dataset_dir: str | Path, split: str) -> list[Entry]: ...
@overload
def load_datalist(dataset_dir: str | Path, split: None = None) -> dict[str, list[Entry]]: ...
def load_datalist(dataset_dir: str | Path, split: str | None = None) -> list[Entry] | dict[str, list[Entry]]:
    """Load the entries of a data folder's ``datalist.json``, with absolute paths.

    Args:
        dataset_dir: The folder with ``datalist.json``, images and labels.
        split: ``"training"``, ``"validation"`` or ``"test"``; None for all three.

    Returns:
        The entries of ``split``, each ``{"image": path, "label": path}`` plus any other keys of the entry (``"fov"``
        and ``"label_2"`` are paths as well). Without ``split``, a dictionary of the sets that are not empty.

    Raises:
        InputError: if the folder, its ``datalist.json`` or the requested set is missing or malformed, or if a listed
            file does not exist.
    """
    folder = Path(str(dataset_dir)).expanduser().absolute()  # MONAI's command line makes a number of a folder 2024
    content = read_datalist(folder)
    if split is not None:
        return _entries(folder, content, split)
    return {key: _entries(folder, content, key) for key in SPLITS if content.get(key)}


def read_datalist(folder: Path) -> dict[str, Any]:
    """Read the ``datalist.json`` of ``folder`` unchanged.

    Raises:
        InputError: if the folder or the file is missing, or the file is not a JSON object.
    """
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise InputError(
            f"the data folder {folder} does not exist; make it from a public data set (`monai-r2unet prepare BUNDLE "
            f"SOURCE {folder}`)",
            remedy=f"name the folder that holds {FILE_NAME}",
            option="dataset_dir",
            value="FOLDER",
        )
    if not path.is_file():
        raise InputError(
            f"the data folder {folder} has no {FILE_NAME}; make one with monai-r2unet prepare, or write it by hand in "
            f"this form: {_FORM}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error.msg} in line {error.lineno}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply; a data list is JSON in this form: {_FORM}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8; a data list is JSON in this form: {_FORM}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__} instead of an object; its form is {_FORM}")
    return content


def write_datalist(folder: Path, content: dict[str, Any]) -> None:
    """Write ``datalist.json`` into ``folder`` atomically: a reader sees either the old file or the new one."""
    partial = folder / f".{FILE_NAME}.partial"
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if not _is_unicode(text):  # names of files may be bytes of any encoding, which JSON can only escape
        text = json.dumps(content, indent=1)
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, folder / FILE_NAME)
    finally:
        partial.unlink(missing_ok=True)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_form(path: Path, split: str, entries: object) -> None:
    """Raise InputError unless ``entries`` is a list and each entry has an image and a label.

    Args:
        path: Path of the data list, for messages.
        split: Name of the set, for messages.
        entries: The set's content.
    """
    if not isinstance(entries, list):
        raise InputError(f'"{split}" in {path} is a {type(entries).__name__} instead of a list; its form is {_FORM}')
    for number, entry in enumerate(entries, start=1):
        named = _REQUIRED if not isinstance(entry, dict) else {*_REQUIRED, *(key for key in _PATHS if key in entry)}
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in named):
            raise InputError(
                f'entry {number} of "{split}" in {path} is {json.dumps(entry)} instead of '
                '{"image": path, "label": path}; give both as paths relative to the folder'
            )


def first_three(names: Iterable[object]) -> str:
    """List the first three of ``names`` for a message: ``a, b, c and 4 more``."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _entries(folder: Path, content: dict[str, Any], split: str) -> list[Entry]:
    path = folder / FILE_NAME
    entries = content.get(split)
    if not entries:
        there = ", ".join(key for key in SPLITS if content.get(key)) or "none of the three"
        raise InputError(
            f'{path} has no cases under "{split}" (it has {there}); add some, each {{"image": path, "label": path}}'
        )
    check_form(path, split, entries)
    resolved = [
        {key: os.path.normpath(folder / value) if key in _PATHS else value for key, value in entry.items()}
        for entry in entries
    ]
    missing = [entry[key] for entry in resolved for key in _PATHS if key in entry and not Path(entry[key]).exists()]
    if missing:
        raise InputError(
            f'of the files that "{split}" in {path} names, {len(missing)} do not exist: {first_three(missing)}; '
            "restore them or remove their entries"
        )
    return resolved
