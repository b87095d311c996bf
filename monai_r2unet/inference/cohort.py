"""Segment a folder of cases: failures are reported, the other cases continue, and a second run resumes.

Beside the masks, the output folder holds ``summary.csv`` and, in ``.cases``, a small JSON file with the details of each
case. With several processes, on one host or many, each takes every n-th case. All files are written atomically, so an
existing mask is complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from monai_r2unet.errors import InputError, OutputError, Spelling, as_argument
from monai_r2unet.files import is_there
from monai_r2unet.images.dicom_files import Chosen
from monai_r2unet.images.masks import MASK_ENDINGS
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.cohort_case import Settings, files_of, image_state, segment_case
from monai_r2unet.inference.cohort_cases import (
    Case,
    find_cases,
    is_cohort,
    named_like_a_file,
    usual_ending,
    without_pictures,
)
from monai_r2unet.inference.cohort_records import (
    RECORDS,
    CaseResult,
    check_report,
    read_records,
    rounded,
    write_record,
    write_tables,
)
from monai_r2unet.inference.devices import process_number
from monai_r2unet.inference.quality import page_entries
from monai_r2unet.inference.quality_page import write_quality_page
from monai_r2unet.inference.reports import describe_segmenter
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.inference.segmenter import Segmenter
from monai_r2unet.provenance import versions

__all__ = ["is_cohort", "segment_cohort"]

# The table is rewritten when it lacks a twentieth of what it lists, and after so many seconds.
LISTED = 20
LISTED_AFTER = 60.0

logger = logging.getLogger(__name__)


def segment_cohort(
    load: Callable[[], Segmenter],
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    endings: Sequence[str] | None = None,
    series: Chosen = None,
    overwrite: bool = False,
    allow_nonfinite: int = 0,
    scale: float | str | None = None,
    clean_up: bool = True,
    probabilities: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    qc: str | os.PathLike[str] | None = None,
    on_case: Callable[[CaseResult, int, int], None] | None = None,
    spelling: Spelling = as_argument,
) -> list[CaseResult]:
    """Segment every case of a folder that has no mask yet.

    Under torchrun, or if ``RANK`` and ``WORLD_SIZE`` are set otherwise, each process takes every n-th case.

    Args:
        load: Function that loads the segmenter; called once, after the folders have been checked.
        source: Folder of cases: image files, and subfolders with one DICOM series each.
        dest: Folder for the masks and ``summary.csv``; created if missing.
        endings: Endings of the masks, which select their formats; each mask is written in all of them, and the records
            name the first. ``None``: ``.png`` for photographs, else ``.nii.gz``.
        series: UIDs or descriptions of DICOM series, one of which each folder must hold; ``None`` if each holds a
            single series.
        overwrite: Segment all cases again.
        allow_nonfinite: Number of NaN or infinite voxels to accept in each case.
        scale: Factor, or diameter of the field of view, of all photographs; see `Segmenter`.
        clean_up: See `Segmenter.run`.
        probabilities: Folder for the foreground probabilities of each case, as NIfTI; created if missing.
        report: JSON file for a report on all cases; an existing report is replaced.
        qc: Folder for a picture of each case and a page that shows them all, the most doubtful first; created if
            missing.
        on_case: Called after each case with its result, the number of finished cases and their total (in this process).
        spelling: Spelling of options in the messages of failed cases.

    Returns:
        The results of this process's cases, in order of their names.

    Raises:
        InputError: if the folders or the ending cannot be used, there is no case, two cases have the same name,
            existing masks were made with other weights, or ``load`` raises it. The failure of a single case does not
            raise.
    """
    source, dest = Path(source), Path(dest)
    maps = None if probabilities is None else Path(probabilities)
    pictures = None if qc is None else Path(qc)
    formats = tuple(dict.fromkeys(endings or ()))
    settings = Settings(allow_nonfinite, scale, clean_up, series, formats[1:], maps, pictures, spelling)
    rank, count = process_number("RANK", 0), process_number("WORLD_SIZE", 1)
    if rank >= count:
        raise InputError(
            f"this is process {rank} (RANK) of {count} (WORLD_SIZE), expected a number from 0 below that of all, or "
            "cases would be left out: correct or remove these environment variables"
        )
    folders = {"the masks": dest, "the probabilities": maps, "the pictures": pictures}
    wanted = {what: folder for what, folder in folders.items() if folder is not None}
    cases = find_cases(source, wanted.values(), tell=rank == 0)
    for ending in formats:
        if ending not in MASK_ENDINGS:
            raise InputError(f"masks cannot end with {ending!r}, expected one of {', '.join(MASK_ENDINGS)}")
    for what, folder in list(wanted.items())[1:]:
        if folder.resolve() == dest.resolve():
            raise InputError(f"{folder} is the folder of the masks: give {what} a separate folder")
    if report is not None:
        check_report(Path(report))
    for what, folder in wanted.items():
        _make_folder(folder, source, what)
    segmenter = load()
    cases = without_pictures(cases, segmenter.bundle, source, tell=rank == 0)
    outputs = {case.name: f"{case.name}{formats[0] if formats else usual_ending(case)}" for case in cases}
    records = read_records(dest)
    if not overwrite:
        _check_same_weights(outputs, records, segmenter, dest)

    mine = cases[rank::count]
    results: list[CaseResult] = []
    rows, unlisted, listed = len(records), 0, time.monotonic()  # of the table: listed, lacking, and when it was written
    try:
        for case in mine:
            output, before = dest / outputs[case.name], records.get(case.name)
            if before is not None and before.output != output.name:
                before = None  # of an earlier run with another ending
            result = None if overwrite else _known(output, case, before, settings)
            if result is None:
                result = segment_case(case, output, segmenter, settings)
            if result.status != "skipped" or before is None:
                result = _recorded(result, dest)
                unlisted += 1
            # The table is written anew each time: the more cases it lists, the less often.
            if unlisted and (unlisted * LISTED >= rows or time.monotonic() - listed > LISTED_AFTER):
                write_tables(dest, outputs)
                rows, unlisted, listed = rows + unlisted, 0, time.monotonic()
            results.append(result)
            if on_case is not None:
                on_case(result, len(results), len(mine))
    except BaseException:
        with contextlib.suppress(OSError):
            write_tables(dest, outputs)
        raise
    about = {"input": str(source), "output": str(dest), **describe_segmenter(segmenter), "versions": versions()}
    write_tables(dest, outputs, None if report is None else Path(report), about)
    if pictures is not None:
        known = [record for record in read_records(dest).values() if record.case in outputs]
        write_quality_page(f"{source.resolve().name}: {segmenter.bundle.name}", page_entries(known, pictures), pictures)
    return results


def _recorded(result: CaseResult, dest: Path) -> CaseResult:
    """Write the record of a case; returns the result, which notes if that failed."""
    try:
        write_record(result, dest)
    except OutputError as error:  # whether other files can be written, the table will show
        return replace(result, message="; ".join(filter(None, [result.message, f"not recorded: {error}"])))
    return result


def _make_folder(folder: Path, source: Path, what: str) -> None:
    if folder.resolve() == source.resolve():
        raise InputError(f"{folder} is the folder of the images: give {what} a separate folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder for {what}: choose another name")
    if named_like_a_file(folder):
        raise InputError(
            f"{folder} is named like a file, but {source} is a folder of cases: name a folder for {what}, or give one "
            "image"
        )
    try:
        (folder / RECORDS if what == "the masks" else folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be created ({error.strerror}): choose another one") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder {folder} is not writable: choose another one or change its permissions")


def _known(output: Path, case: Case, before: CaseResult | None, settings: Settings) -> CaseResult | None:
    """The result of a case whose files already exist; otherwise ``None``."""
    if not all(is_there(path) and path.is_file() for path in files_of(case, output, settings)):
        return None
    if before is not None and (before.status == "failed" or _is_replaced(case, before, output)):
        return None
    voxels = millilitres = None
    if before is not None:
        voxels, millilitres = before.voxels, before.millilitres
    else:  # made by another program, or this one was killed just after writing the mask
        with contextlib.suppress(InputError):
            mask = Segmentation(read_image(output))
            voxels, millilitres = mask.voxels, rounded(mask.millilitres)
    return CaseResult(
        case.name,
        "skipped",
        output.name,
        voxels,
        millilitres,
        message="the mask was there already",
        image_state=image_state(case),
    )


def _is_replaced(case: Case, before: CaseResult, output: Path) -> bool:
    """Whether a case has another image than the one that its mask was made from."""
    if before.image_state:
        return before.image_state != image_state(case)
    with contextlib.suppress(OSError):  # of an earlier version
        return case.path.stat().st_mtime > output.stat().st_mtime
    return True


def _check_same_weights(
    outputs: Mapping[str, str], records: Mapping[str, CaseResult], segmenter: Segmenter, dest: Path
) -> None:
    """Refuse to add masks of other weights to existing ones."""
    for name, output in outputs.items():
        record = records.get(name)
        if record is None or record.output != output or not record.made_with or not is_there(dest / output):
            continue
        weights = record.made_with["weights_sha256"]
        if record.status != "failed" and weights != segmenter.weights_sha256:
            raise InputError(
                f"{output} in {dest} was made with other weights (bundle {record.made_with['bundle']!r}, SHA-256 "
                f"{weights[:12]}...): choose another folder",
                remedy="replace all masks",
                option="overwrite",
            )
