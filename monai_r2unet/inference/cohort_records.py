"""The files of a cohort: a record of each case, the table ``summary.csv``, and the report.

Table and report are always rewritten from the records, so several processes, on one host or many, can share a cohort
without communicating: each writes only the records of its own cases.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_r2unet.errors import InputError, OutputError
from monai_r2unet.files import is_there, short_name, write_json, written_whole
from monai_r2unet.images.writing import check_place

__all__ = ["RECORDS", "CaseResult", "check_report", "read_records", "rounded", "write_record", "write_tables"]

COLUMNS = ("case", "status", "voxels", "millilitres", "seconds", "message")
DENSITIES = ("mean_hu", "median_hu", "std_hu", "p15_hu", "laa950_percent", "opacified_percent")
RECORDS = ".cases"  # folder beside the masks
SUMMARY = "summary.csv"


@dataclass(frozen=True)
class CaseResult:
    """The result of one case.

    Args:
        case: Name of the file without its ending, or of the folder.
        status: ``"done"``; ``"empty"`` (nothing was found; the empty mask is written); ``"failed"``, see ``message``;
            ``"skipped"`` (the mask already existed).
        output: File name of the mask.
        voxels: Number of foreground voxels; ``None`` if unknown.
        millilitres: Volume of the foreground; ``None`` if unknown, and for pictures.
        seconds: Time from reading to writing.
        message: Reason of the failure, or warnings.
        made_with: Bundle, its version, weights and their SHA-256, device, batch size.
        details: Further content of the image's report.
        image_state: State of the image's files when they were read, see `cohort_cases.state_of`; empty if unknown.
    """

    case: str
    status: str
    output: str
    voxels: int | None = None
    millilitres: float | None = None
    seconds: float | None = None
    message: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    image_state: str = ""


def write_record(result: CaseResult, dest: Path) -> None:
    """Write the record of a case into the folder of the masks."""
    write_json(asdict(result), dest / RECORDS / f"{short_name(result.case, len('.json'))}.json")


def read_records(dest: Path) -> dict[str, CaseResult]:
    """The records of the cases in the folder of masks ``dest``, by name.

    Each record is parsed only once: there may be thousands.

    Raises:
        OutputError: the folder has gone.
    """
    try:
        with os.scandir(dest / RECORDS) as entries:
            files = [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
    except OSError as error:
        raise OutputError(dest / RECORDS, error) from error
    records: dict[str, CaseResult] = {}
    for entry in sorted(files, key=lambda entry: entry.name):
        with contextlib.suppress(OSError):  # another process may just replace it
            state = entry.stat()
            record = _parsed(entry.path, state.st_ino, state.st_mtime_ns, state.st_size)
            if record is not None:
                records[record.case] = record
    return records


@functools.cache
def _parsed(path: str, *state: int) -> CaseResult | None:
    """The record in a file, which has another ``state`` once it is replaced."""
    try:
        record = CaseResult(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # not ours, or of another version: as good as none
        return None
    return record if isinstance(record.case, str) and isinstance(record.output, str) else None


def check_report(path: Path) -> None:
    """Check that the report of a cohort can be written. It may replace an older report, but no other file.

    Raises:
        InputError: if the folder is missing or not writable, or the path is another file.
    """
    check_place(path, overwrite=True)
    try:
        is_report = not path.exists() or "cases" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, OSError):
        is_report = False
    if not is_report:
        raise InputError(f"{path} exists already and is not a report of a folder of cases: choose another name")


def write_tables(
    dest: Path, outputs: Mapping[str, str], report: Path | None = None, about: Mapping[str, Any] | None = None
) -> None:
    """Write the table and, if requested, the report: an entry for every existing mask and every failure.

    If another process writes a record meanwhile, this older table may replace its newer one, so writing is repeated
    until the records no longer change.

    Args:
        dest: Folder of the masks.
        outputs: File name of each case's mask.
        report: File for the report.
        about: Facts about the complete cohort, for the report.
    """
    while True:
        records = read_records(dest)
        rows = {name: record for name, record in records.items() if is_there(dest / record.output)}
        rows |= {name: record for name, record in records.items() if record.status == "failed" and name in outputs}
        with (
            written_whole(dest / SUMMARY, ".csv") as temporary,
            # Names may be bytes of any encoding; a table is UTF-8.
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out,
        ):
            cells = [_row(rows[name]) for name in sorted(rows)]
            columns = dict.fromkeys([*COLUMNS, *(column for row in cells for column in row)])
            table = csv.DictWriter(out, list(columns))
            table.writeheader()
            table.writerows(cells)
        if report is not None:
            write_json({**(about or {}), "cases": [_entry(rows[name]) for name in sorted(rows)]}, report)
        if read_records(dest) == records:
            return


def _row(record: CaseResult) -> dict[str, Any]:
    """A case's row in the table: voxels, mL and densities; several labels have separate columns."""
    row = {column: getattr(record, column) for column in COLUMNS}
    labels = record.details.get("labels", [])
    for label in labels if len(labels) > 1 else []:
        row[f"voxels of {label['name']}"] = label["voxels"]
        row[f"millilitres of {label['name']}"] = rounded(label["millilitres"])
    for name, numbers in record.details.get("densitometry", {}).items():
        for measure in DENSITIES:
            row[f"{measure} of {name}"] = rounded(numbers[measure], 2)
    return row


def rounded(number: float | None, digits: int = 3) -> float | None:
    """A number as tables and records hold it, a volume in mL by default; ``None`` stays."""
    return None if number is None else round(number, digits)


def _entry(record: CaseResult) -> dict[str, Any]:
    """A case's entry in the report. Its details give the seconds of each step instead of their sum."""
    whole = asdict(record)
    made_with, details = whole.pop("made_with"), whole.pop("details")
    del whole["image_state"]
    return {**whole, **made_with, **details}
