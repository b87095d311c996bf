"""Assignment of patients to sets: drawn with a seed, or read from a table."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from monai_r2unet.errors import InputError

__all__ = ["draw_split", "hold_out_validation", "read_split_table"]

VALIDATION_OF_TRAINING = 0.1
_SPELLINGS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
_LEFT_OUT = ("", "skip")


def draw_split(patients: Iterable[str], validation: float, test: float, seed: int) -> dict[str, str]:
    """Draw a set for each patient.

    Args:
        patients: Identifiers in any order; repetitions count once.
        validation: Fraction of the patients for validation.
        test: Fraction of the patients for test, 0 for none; the rest is for training.
        seed: The same patients and seed give the same split.

    Returns:
        ``{patient: "training" | "validation" | "test"}``. With three or more patients no set is empty, unless none was
        wanted; of two patients one is for training and one for validation; a single patient is for training.
    """
    order = sorted(set(patients))
    random.Random(seed).shuffle(order)
    n_test = max(1, round(test * len(order))) if test and len(order) > 2 else 0
    n_validation = max(1, round(validation * len(order))) if len(order) > 1 else 0
    names = ["test"] * n_test + ["validation"] * n_validation
    names += ["training"] * (len(order) - len(names))
    return dict(zip(order, names, strict=True))


def hold_out_validation(split: Mapping[str, str], seed: int) -> dict[str, str]:
    """Return ``split`` with a tenth of the training patients (at least one) moved to validation, if that was empty.

    A single training patient stays where it is.
    """
    result = dict(split)
    training = sorted(patient for patient, name in split.items() if name == "training")
    if "validation" not in split.values() and len(training) > 1:
        held_out = random.Random(seed).sample(training, max(1, round(VALIDATION_OF_TRAINING * len(training))))
        result.update(dict.fromkeys(held_out, "validation"))
    return result


def read_split_table(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns ``case`` (or ``id``) and ``split``.

    Args:
        path: The file; ``split`` is train, training, val, validation or test. Cases with ``skip`` or no split, or that
            are not listed, are left out.

    Returns:
        ``{case: "training" | "validation" | "test"}`` without the cases that are left out.

    Raises:
        InputError: if the file cannot be read, lacks a column, or holds an unknown or contradictory split.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = {(name or "").strip().lower(): name for name in table.fieldnames or []}
            rows = [(table.line_num, row) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the split file {path} cannot be read as CSV: {error}") from None
    key = columns.get("case", columns.get("id"))
    if key is None or "split" not in columns:
        raise InputError(f"the split file {path} has the columns {', '.join(columns)}; it needs case (or id) and split")
    result: dict[str, str] = {}
    for line, row in rows:
        case = (row[key] or "").strip()
        value = (row[columns["split"]] or "").strip().lower()
        if value in _LEFT_OUT:
            continue
        if value not in _SPELLINGS:
            raise InputError(
                f'the split file {path} has "{value}" in line {line}; use train, val, test, or skip to leave a case out'
            )
        if result.setdefault(case, _SPELLINGS[value]) != _SPELLINGS[value]:
            raise InputError(
                f"the split file {path} puts {case} into two sets (line {line}); keep one of the two lines"
            )
    return result
