"""Segmentation of a folder of cases: failures are named and the rest go on, and a second run does what is missing.

Beside the masks, the output folder holds ``summary.csv`` and, in ``.cases``, a small JSON file for each case with all
that is known of it. The table is made anew from these files after each case, so that several processes, on one host or
many, can share a cohort without speaking to each other: each owns every n-th case, and writes only files of its own
cases, and the table. All files appear whole or not at all, so that a mask that is there is finished.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.rendezvous import rendezvous

from monai_r2unet.dicom_series import is_dicom
from monai_r2unet.errors import InputError
from monai_r2unet.image_files import READERS
from monai_r2unet.io import read_image, written_whole
from monai_r2unet.outputs import MASK_ENDINGS, check_mask_output, write_mask
from monai_r2unet.results import write_json
from monai_r2unet.segmenter import Segmenter

__all__ = ["CaseResult", "failures_everywhere", "is_cohort", "segment_cohort"]

COLUMNS = ("case", "status", "voxels", "millilitres", "seconds", "message")
RECORDS = ".cases"
SUMMARY = "summary.csv"
DATA_OF_HEADERS = (".raw", ".zraw", ".raw.gz")  # what .mhd and .nhdr files refer to

logger = logging.getLogger(__name__)


class Case(NamedTuple):
    """An image file, or a folder with one DICOM series, under the name that its mask gets."""

    name: str
    path: Path


@dataclass(frozen=True)
class CaseResult:
    """What came of one case.

    Args:
        case: its name: that of the file without its ending, or of the folder.
        status: ``"done"``; ``"empty"`` (nothing was found, the empty mask is written); ``"failed"``, see ``message``;
            ``"skipped"`` (the mask was there already).
        output: name of the mask's file.
        voxels: foreground; ``None`` where unknown.
        millilitres: foreground; ``None`` where unknown.
        seconds: from reading to writing.
        message: why it failed, or what may make the mask wrong.
        made_with: bundle, its version, SHA-256 of the weights, device.
    """

    case: str
    status: str
    output: str
    voxels: int | None = None
    millilitres: float | None = None
    seconds: float | None = None
    message: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)


def is_cohort(source: str | os.PathLike[str]) -> bool:
    """Tell a folder of cases from one image: a folder with DICOM files directly in it is one series."""
    source = Path(source)
    return source.is_dir() and not any(_is_dicom_file(path) for path in source.iterdir())


def segment_cohort(
    load: Callable[[], Segmenter],
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    ending: str = ".nii.gz",
    overwrite: bool = False,
    allow_nonfinite: int = 0,
    on_case: Callable[[CaseResult, int, int], None] | None = None,
) -> list[CaseResult]:
    """Segment every case of a folder that has no mask yet.

    Under torchrun (or wherever ``RANK`` and ``WORLD_SIZE`` are set) each process takes every n-th case.

    Args:
        load: makes the segmenter; called once, after the folders were checked.
        source: folder of cases: image files, and subfolders with one DICOM series each.
        dest: folder for the masks and ``summary.csv``; made where it is missing.
        ending: of the masks, which names their format.
        overwrite: segment all cases anew.
        allow_nonfinite: accept that many NaN or infinite voxels in each case.
        on_case: called after each case with its result, the cases done and their total (of this process).

    Returns:
        A result for each case of this process, in order of their names.

    Raises:
        InputError: if the folders or the ending cannot be used, there is no case, two cases have one name, the masks
            that are there were made with other weights, or ``load`` raises it. What befalls a single case raises
            nothing.
    """
    source, dest = Path(source), Path(dest)
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cases = _find_cases(source, dest, tell=rank == 0)
    _make_dest(dest, source, ending)
    segmenter = load()
    records = _read_records(dest)
    if not overwrite:
        _check_same_weights(cases, records, segmenter, dest, ending)

    mine = cases[rank::count]
    results: list[CaseResult] = []
    for case in mine:
        output = dest / f"{case.name}{ending}"
        before = records.get(case.name, {})
        if not overwrite and output.exists() and not (before.get("output") == output.name and _failed(before)):
            known: dict[str, Any] = {
                key: before.get(key) for key in ("voxels", "millilitres") if before.get("output") == output.name
            }
            result = CaseResult(case.name, "skipped", output.name, message="the mask was there already", **known)
        else:
            result = _segment_case(case, output, segmenter, overwrite or _failed(before), allow_nonfinite)
            write_json(asdict(result), dest / RECORDS / f"{case.name}.json")
            _write_summary(dest, cases, ending)
        results.append(result)
        if on_case is not None:
            on_case(result, len(results), len(mine))
    _write_summary(dest, cases, ending)
    return results


def failures_everywhere(failed: int) -> int:
    """The failed cases of all processes that torchrun started, once all have finished; elsewhere ``failed`` itself.

    torchrun ends every process as soon as one leaves with an error, so that whoever has failures must wait for the
    others.
    """
    if not torch.distributed.is_torchelastic_launched():
        return failed
    forever = timedelta(days=365)
    store, _, count = next(rendezvous("env://", timeout=forever))
    store.add("failed", failed)
    store.add("finished", 1)
    while store.add("finished", 0) < count:
        time.sleep(0.2)
    return int(store.add("failed", 0))


# ---- the cases -------------------------------------------------------------------------------------------------------


def _is_dicom_file(path: Path) -> bool:
    named_otherwise = path.name.lower().endswith(tuple(READERS)) or path.name.startswith(".")
    return path.is_file() and not named_otherwise and is_dicom(path)


def _find_cases(source: Path, dest: Path, tell: bool) -> list[Case]:
    """The cases of a folder by name; hidden files and the output folder are none, other files are told of."""
    if not source.is_dir():
        raise InputError(f"{source} is no folder, expected one with the images to segment: check the path")
    found: dict[str, Case] = {}
    others: list[str] = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or dest.resolve().is_relative_to(path.resolve()):
            continue
        endings = [ending for ending in READERS if path.name.lower().endswith(ending)]
        if path.is_file() and not endings:
            if not path.name.lower().endswith(DATA_OF_HEADERS):
                others.append(path.name)
            continue
        name = path.name[: -len(max(endings, key=len))] if path.is_file() else path.name
        if name in found:
            raise InputError(
                f"{found[name].path.name} and {path.name} in {source} would both get the mask {name}: rename one"
            )
        found[name] = Case(name, path)
    if not found:
        raise InputError(f"{source} holds neither images nor folders of DICOM: name the folder with the cases")
    if others and tell:
        few = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        warnings.warn(f"{len(others)} of the files in {source} are no images and are left out: {few}", stacklevel=3)
    return [found[name] for name in sorted(found)]


def _make_dest(dest: Path, source: Path, ending: str) -> None:
    if ending not in MASK_ENDINGS:
        raise InputError(f"masks cannot end with {ending!r}, expected one of {', '.join(MASK_ENDINGS)}")
    if dest.resolve() == source.resolve():
        raise InputError(f"{dest} is the folder of the images: give the masks a folder of their own")
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file, expected a folder for the masks: choose another name")
    try:
        (dest / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {dest} cannot be made ({error.strerror}): choose another one") from error
    if not os.access(dest, os.W_OK | os.X_OK):
        raise InputError(f"the folder {dest} is not writable: choose another one or change its permissions")


def _segment_case(case: Case, output: Path, segmenter: Segmenter, overwrite: bool, allow_nonfinite: int) -> CaseResult:
    started = time.perf_counter()
    made_with = {
        "bundle": segmenter.bundle.name,
        "bundle_version": segmenter.bundle.metadata.get("version"),
        "weights_sha256": segmenter.weights_sha256,
        "device": str(segmenter.device),
    }
    try:
        check_mask_output(output, case.path, overwrite=overwrite)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            image = read_image(case.path)
        notes = [str(warning.message) for warning in caught if warning.category is UserWarning]
        result = segmenter.run(image, allow_nonfinite=allow_nonfinite)
        write_mask(result.mask, output, bundle=segmenter.bundle, source=case.path, overwrite=overwrite)
    except Exception as error:  # one case must not end the others, whatever it is
        if isinstance(error, InputError):
            message = str(error)
        else:
            logger.exception("case %s", case.name)
            message = f"unexpected {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return CaseResult(case.name, "failed", output.name, message=message, made_with=made_with)
    return CaseResult(
        case.name,
        "done" if result.voxels else "empty",
        output.name,
        result.voxels,
        round(result.millilitres, 3),
        round(time.perf_counter() - started, 3),
        "; ".join(notes + result.warnings),
        made_with,
    )


# ---- what is known of them -------------------------------------------------------------------------------------------


def _read_records(dest: Path) -> dict[str, dict[str, Any]]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((dest / RECORDS).glob("[!.]*.json"))
    }


def _failed(record: Mapping[str, Any]) -> bool:
    return record.get("status") == "failed"


def _check_same_weights(
    cases: Iterable[Case], records: Mapping[str, dict[str, Any]], segmenter: Segmenter, dest: Path, ending: str
) -> None:
    """Refuse to complete a set of masks with another network's."""
    for case in cases:
        record = records.get(case.name, {"status": "failed"})
        if _failed(record) or record["output"] != f"{case.name}{ending}" or not (dest / record["output"]).exists():
            continue
        made_with = record["made_with"]
        if made_with["weights_sha256"] != segmenter.weights_sha256:
            raise InputError(
                f"{record['output']} in {dest} was made with other weights (bundle {made_with['bundle']!r}, SHA-256 "
                f"{made_with['weights_sha256'][:12]}...): choose another folder or use --overwrite"
            )


def _write_summary(dest: Path, cases: Iterable[Case], ending: str) -> None:
    """Write the table anew: a row for every mask that is there, and for every case that failed.

    Where another process has written a record meanwhile, its table may have been replaced with this older one: hence
    again, until nothing has changed.
    """
    known = {case.name: f"{case.name}{ending}" for case in cases}
    while True:
        records = _read_records(dest)
        rows = {name: record for name, record in records.items() if (dest / record["output"]).exists()}
        rows |= {name: record for name, record in records.items() if _failed(record) and name in known}
        for name, output in known.items():
            if name not in rows and (dest / output).exists():
                rows[name] = asdict(CaseResult(name, "skipped", output, message="the mask was there already"))
        with (
            written_whole(dest / SUMMARY, ".csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as out,
        ):
            table = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows[name] for name in sorted(rows))
        if _read_records(dest) == records:
            return
