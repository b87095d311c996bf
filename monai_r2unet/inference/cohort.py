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
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from monai_r2unet.errors import InputError, Spelling, as_argument, known_error, sentence_of
from monai_r2unet.images.dicom_files import is_dicom
from monai_r2unet.images.formats import READERS
from monai_r2unet.images.masks import MASK_ENDINGS, check_mask_output, check_mask_source, write_mask, write_preview
from monai_r2unet.images.reading import read_image, read_image_with_notes
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.cohort_records import (
    RECORDS,
    CaseResult,
    check_report,
    read_records,
    write_record,
    write_tables,
)
from monai_r2unet.inference.reports import describe_result, describe_segmenter
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.inference.segmenter import Segmenter
from monai_r2unet.provenance import versions

__all__ = ["is_cohort", "segment_cohort"]

DATA_OF_HEADERS = (".raw", ".zraw", ".raw.gz")  # data files of .mhd and .nhdr headers
MAP_ENDING = ".nii.gz"  # ending of the files of probabilities

logger = logging.getLogger(__name__)


class Case(NamedTuple):
    """An image file or a folder with one DICOM series, with the name of its mask."""

    name: str
    path: Path


def is_cohort(source: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of cases. A folder with DICOM files directly in it is one image."""
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
    scale: float | str | None = None,
    clean_up: bool = True,
    probabilities: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    on_case: Callable[[CaseResult, int, int], None] | None = None,
    spelling: Spelling = as_argument,
) -> list[CaseResult]:
    """Segment every case of a folder that has no mask yet.

    Under torchrun, or if ``RANK`` and ``WORLD_SIZE`` are set otherwise, each process takes every n-th case.

    Args:
        load: Function that loads the segmenter; called once, after the folders have been checked.
        source: Folder of cases: image files, and subfolders with one DICOM series each.
        dest: Folder for the masks and ``summary.csv``; created if missing.
        ending: Ending of the masks, which selects their format.
        overwrite: Segment all cases again.
        allow_nonfinite: Number of NaN or infinite voxels to accept in each case.
        scale: Factor, or diameter of the field of view, of all photographs; see `Segmenter`.
        clean_up: See `Segmenter.run`.
        probabilities: Folder for the foreground probabilities of each case, as NIfTI; created if missing.
        report: JSON file for a report on all cases; an existing report is replaced.
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
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cases = _find_cases(source, [dest] if maps is None else [dest, maps], tell=rank == 0)
    if ending not in MASK_ENDINGS:
        raise InputError(f"masks cannot end with {ending!r}, expected one of {', '.join(MASK_ENDINGS)}")
    if maps is not None and maps.resolve() == dest.resolve():
        raise InputError(f"{maps} is the folder of the masks: give the probabilities a folder of their own")
    if report is not None:
        check_report(Path(report))
    _make_folder(dest, source, "the masks")
    if maps is not None:
        _make_folder(maps, source, "the probabilities")
    segmenter = load()
    outputs = {case.name: f"{case.name}{ending}" for case in cases}
    records = read_records(dest)
    if not overwrite:
        _check_same_weights(outputs, records, segmenter, dest)

    mine = cases[rank::count]
    results: list[CaseResult] = []
    for case in mine:
        output, before = dest / outputs[case.name], records.get(case.name)
        if before is not None and before.output != output.name:
            before = None  # from an earlier run with another ending
        result = None if overwrite else _known(output, case, before, maps)
        if result is None:
            result = _segment_case(case, output, segmenter, allow_nonfinite, scale, clean_up, maps, spelling)
        if result.status != "skipped" or before is None:
            write_record(result, dest)
            write_tables(dest, outputs)
        results.append(result)
        if on_case is not None:
            on_case(result, len(results), len(mine))
    about = {"input": str(source), "output": str(dest), **describe_segmenter(segmenter), "versions": versions()}
    write_tables(dest, outputs, None if report is None else Path(report), about)
    return results


# ---- the cases -------------------------------------------------------------------------------------------------------


def _is_dicom_file(path: Path) -> bool:
    named_otherwise = path.name.lower().endswith(tuple(READERS)) or path.name.startswith(".")
    return path.is_file() and not named_otherwise and is_dicom(path)


def _find_cases(source: Path, dests: Iterable[Path], tell: bool) -> list[Case]:
    """The cases of a folder by name. Hidden files and output folders are skipped, other files with a warning."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder, expected one with the images to segment: check the path")
    found: dict[str, Case] = {}
    others: list[str] = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or any(dest.resolve().is_relative_to(path.resolve()) for dest in dests):
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
        warnings.warn(f"{len(others)} of the files in {source} are not images and are skipped: {few}", stacklevel=3)
    return [found[name] for name in sorted(found)]


def _make_folder(folder: Path, source: Path, what: str) -> None:
    if folder.resolve() == source.resolve():
        raise InputError(f"{folder} is the folder of the images: give {what} a folder of their own")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder for {what}: choose another name")
    try:
        (folder / RECORDS if what == "the masks" else folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made ({error.strerror}): choose another one") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder {folder} is not writable: choose another one or change its permissions")


def _known(output: Path, case: Case, before: CaseResult | None, maps: Path | None) -> CaseResult | None:
    """The result of a case whose mask (and probabilities) already exist; otherwise ``None``."""
    if not output.exists() or (maps is not None and not (maps / f"{case.name}{MAP_ENDING}").exists()):
        return None
    if before is not None and before.status == "failed":
        return None
    voxels = millilitres = None
    if before is not None:
        voxels, millilitres = before.voxels, before.millilitres
    else:  # made by another program, or this one was killed just after writing the mask
        with contextlib.suppress(InputError):
            mask = Segmentation(read_image(output))
            voxels, millilitres = mask.voxels, _rounded(mask.millilitres)
    return CaseResult(case.name, "skipped", output.name, voxels, millilitres, message="the mask was there already")


def _segment_case(
    case: Case,
    output: Path,
    segmenter: Segmenter,
    allow_nonfinite: int,
    scale: float | str | None,
    clean_up: bool,
    maps: Path | None,
    spelling: Spelling,
) -> CaseResult:
    started = time.perf_counter()
    made_with = describe_segmenter(segmenter)
    try:
        check_mask_output(output, case.path, overwrite=True)
        image, notes = read_image_with_notes(case.path)
        seconds = {"read": time.perf_counter() - started}
        check_mask_source(output, bundle=segmenter.bundle, source=case.path)
        result = segmenter.run(
            image,
            allow_nonfinite=allow_nonfinite,
            scale=scale,
            clean_up=clean_up,
            probabilities=maps is not None,
        )
        segmented = time.perf_counter()
        if result.probabilities is not None and maps is not None:  # first: an existing mask means a complete case
            write_image(result.probabilities, maps / f"{case.name}{MAP_ENDING}", overwrite=True)
        write_preview(result.mask, output, bundle=segmenter.bundle)
        write_mask(result.mask, output, bundle=segmenter.bundle, source=case.path, overwrite=True)
        seconds["write"] = time.perf_counter() - segmented
    except Exception as error:  # no failure of one case may stop the others
        if known_error(error) is None:
            logger.exception("case %s", case.name)
        return CaseResult(
            case.name,
            "failed",
            output.name,
            message=sentence_of(error, spelling),
            made_with=made_with,
            details={"input": str(case.path)},
        )
    found = describe_result(image, result, notes, seconds)
    nothing = [] if result.voxels else ["nothing was found, so that the mask is empty"]
    return CaseResult(
        case.name,
        "done" if result.voxels else "empty",
        output.name,
        found.pop("voxels"),
        _rounded(found.pop("millilitres")),
        round(time.perf_counter() - started, 3),
        "; ".join(found["warnings"] + nothing),
        made_with,
        {"input": str(case.path), **found},
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _check_same_weights(
    outputs: Mapping[str, str], records: Mapping[str, CaseResult], segmenter: Segmenter, dest: Path
) -> None:
    """Refuse to add masks of other weights to existing ones."""
    for name, output in outputs.items():
        record = records.get(name)
        if record is None or record.output != output or not record.made_with or not (dest / output).exists():
            continue
        weights = record.made_with["weights_sha256"]
        if record.status != "failed" and weights != segmenter.weights_sha256:
            raise InputError(
                f"{output} in {dest} was made with other weights (bundle {record.made_with['bundle']!r}, SHA-256 "
                f"{weights[:12]}...): choose another folder",
                remedy="replace all masks",
                option="overwrite",
            )
