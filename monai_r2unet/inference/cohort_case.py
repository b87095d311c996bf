"""One case of a cohort, from its file to its mask; whatever goes wrong becomes its result."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_r2unet.errors import Spelling, as_argument, known_error, sentence_of
from monai_r2unet.images.dicom_files import Chosen
from monai_r2unet.images.masks import check_mask_output, check_mask_source, write_mask, write_preview
from monai_r2unet.images.reading import read_image_with_notes
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.cohort_cases import Case, state_of
from monai_r2unet.inference.cohort_records import CaseResult, rounded
from monai_r2unet.inference.quality import doubt, write_picture
from monai_r2unet.inference.reports import describe_result, describe_segmenter
from monai_r2unet.inference.segmenter import Segmenter

__all__ = ["Settings", "files_of", "image_state", "segment_case"]

MAP_ENDING = ".nii.gz"  # ending of the files of probabilities
PICTURE_ENDING = ".png"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the cases of a cohort are segmented; `segment_cohort` describes the arguments.

    Args:
        further: Endings of the other formats in which the masks are written.
        maps: Folder for the foreground probabilities, if requested.
        pictures: Folder for a picture of each case, if requested.
    """

    allow_nonfinite: int = 0
    scale: float | str | None = None
    clean_up: bool = True
    series: Chosen = None
    further: tuple[str, ...] = ()
    maps: Path | None = None
    pictures: Path | None = None
    spelling: Spelling = as_argument


def files_of(case: Case, output: Path, settings: Settings) -> list[Path]:
    """The files that make a case complete."""
    files = masks_of(case, output, settings)
    if settings.maps is not None:
        files.append(settings.maps / f"{case.name}{MAP_ENDING}")
    if settings.pictures is not None:
        files.append(settings.pictures / f"{case.name}{PICTURE_ENDING}")
    return files


def masks_of(case: Case, output: Path, settings: Settings) -> list[Path]:
    """The files of a case's mask, ``output`` last."""
    return [*(output.with_name(f"{case.name}{ending}") for ending in settings.further), output]


def image_state(case: Case) -> str:
    """The state of a case's image, by which a replaced one is recognised; empty if it cannot be read."""
    try:
        return state_of(case.path)
    except OSError:  # whoever reads it says why
        return ""


def segment_case(case: Case, output: Path, segmenter: Segmenter, settings: Settings) -> CaseResult:
    """Segment a case and write its files, the mask last: an existing mask means a complete case."""
    started = time.perf_counter()
    made_with = describe_segmenter(segmenter)
    state = image_state(case)
    series = settings.series if case.path.is_dir() else None
    masks = masks_of(case, output, settings)
    shown: dict[str, Any] = {}
    try:
        for path in masks:
            check_mask_output(path, case.path, overwrite=True)
        image, notes = read_image_with_notes(case.path, series=series)
        seconds = {"read": time.perf_counter() - started}
        for path in masks:
            check_mask_source(path, bundle=segmenter.bundle, source=case.path, series=series)
        result = segmenter.run(
            image,
            allow_nonfinite=settings.allow_nonfinite,
            scale=settings.scale,
            clean_up=settings.clean_up,
            probabilities=settings.maps is not None or settings.pictures is not None,
        )
        segmented = time.perf_counter()
        if result.probabilities is not None and settings.maps is not None:
            write_image(result.probabilities, settings.maps / f"{case.name}{MAP_ENDING}", overwrite=True)
        if settings.pictures is not None:
            name = f"{case.name}{PICTURE_ENDING}"
            write_picture(image, result, segmenter.bundle, settings.pictures / name)
            shown = {"picture": name, "doubt": doubt(result)}
        for path in masks:
            write_preview(result.mask, path, bundle=segmenter.bundle)
            write_mask(result.mask, path, bundle=segmenter.bundle, source=case.path, series=series, overwrite=True)
        seconds["write"] = time.perf_counter() - segmented
    except Exception as error:  # no failure of one case may stop the others
        if known_error(error) is None:
            logger.exception("case %s", case.name)
        return CaseResult(
            case.name,
            "failed",
            output.name,
            message=sentence_of(error, settings.spelling),
            made_with=made_with,
            details={"input": str(case.path)},
            image_state=state,
        )
    found = describe_result(image, result, segmenter.bundle, notes, seconds)
    nothing = [] if result.voxels else ["nothing was found, so that the mask is empty"]
    return CaseResult(
        case.name,
        "done" if result.voxels else "empty",
        output.name,
        found.pop("voxels"),
        rounded(found.pop("millilitres")),
        round(time.perf_counter() - started, 3),
        "; ".join(found["warnings"] + nothing),
        made_with,
        {"input": str(case.path), **found, **shown},
        state,
    )
