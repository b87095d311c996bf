"""What is known of a cohort, on disk: a record for each case, the table ``summary.csv``, and the report.

Table and report are made anew from the records, so that several processes, on one host or many, can share a cohort
without speaking to each other: each writes records of its own cases only.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_r2unet.errors import InputError
from monai_r2unet.files import write_json, written_whole
from monai_r2unet.images.writing import check_place

__all__ = ["RECORDS", "CaseResult", "check_report", "read_records", "write_record", "write_tables"]

COLUMNS = ("case", "status", "voxels", "millilitres", "seconds", "message")
RECORDS = ".cases"  # folder beside the masks
SUMMARY = "summary.csv"


@dataclass(frozen=True)
class CaseResult:
    """What came of one case.

    Args:
        case: its name: that of the file without its ending, or of the folder.
        status: ``"done"``; ``"empty"`` (nothing was found, the empty mask is written); ``"failed"``, see ``message``;
            ``"skipped"`` (the mask was there already).
        output: name of the mask's file.
        voxels: foreground; ``None`` where unknown.
        millilitres: foreground; ``None`` where unknown, and of pictures.
        seconds: from reading to writing.
        message: why it failed, or what may make the mask wrong.
        made_with: bundle, its version, weights and their SHA-256, device, batch size.
        details: what else the report of one image holds.
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


def write_record(result: CaseResult, dest: Path) -> None:
    """Keep what came of a case in the folder of the masks."""
    write_json(asdict(result), dest / RECORDS / f"{result.case}.json")


def read_records(dest: Path) -> dict[str, CaseResult]:
    """All that is known of the cases whose masks are in ``dest``, by their names."""
    records: dict[str, CaseResult] = {}
    for path in sorted((dest / RECORDS).glob("[!.]*.json")):
        try:
            records[path.stem] = CaseResult(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):  # not ours, or of another version: as good as none
            continue
    return records


def check_report(path: Path) -> None:
    """Check that the report of a cohort can be written: it may replace an older one, but nothing else.

    Raises:
        InputError: a folder that is missing or not writable, or a file of another kind.
    """
    check_place(path, overwrite=True)
    try:
        is_report = not path.exists() or "cases" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, OSError):
        is_report = False
    if not is_report:
        raise InputError(f"{path} exists already and is no report of a folder of cases: choose another name")


def write_tables(
    dest: Path, outputs: Mapping[str, str], report: Path | None = None, about: Mapping[str, Any] | None = None
) -> None:
    """Write the table, and the report where one is wanted: an entry for every mask that is there and every failure.

    Where another process has written a record meanwhile, its table may have been replaced with this older one: hence
    again, until nothing has changed.

    Args:
        dest: folder of the masks.
        outputs: the name of each case's mask.
        report: file for the report.
        about: what the report says of the whole cohort.
    """
    while True:
        records = read_records(dest)
        rows = {name: record for name, record in records.items() if (dest / record.output).exists()}
        rows |= {name: record for name, record in records.items() if record.status == "failed" and name in outputs}
        with (
            written_whole(dest / SUMMARY, ".csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as out,
        ):
            table = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
            table.writeheader()
            table.writerows(asdict(rows[name]) for name in sorted(rows))
        if report is not None:
            write_json({**(about or {}), "cases": [_entry(rows[name]) for name in sorted(rows)]}, report)
        if read_records(dest) == records:
            return


def _entry(record: CaseResult) -> dict[str, Any]:
    """A case in the report: its details have the seconds of each step in place of their sum."""
    whole = asdict(record)
    made_with, details = whole.pop("made_with"), whole.pop("details")
    return {**whole, **made_with, **details}
