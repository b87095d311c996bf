"""The cases of a folder: images and folders with DICOM, without the other files beside them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import is_dicom
from monai_r2unet.images.formats import READERS, files_of, stem_of
from monai_r2unet.images.masks import MASK_ENDINGS
from monai_r2unet.images.photographs import ENDINGS as PHOTOGRAPHS

__all__ = ["Case", "find_cases", "is_cohort", "named_like_a_file", "state_of", "usual_ending", "without_pictures"]

DATA_OF_HEADERS = (".raw", ".zraw", ".raw.gz")  # what .mhd and .nhdr files refer to


class Case(NamedTuple):
    """An image file or a folder with one DICOM series, with the name of its mask."""

    name: str
    path: Path


def is_cohort(source: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> bool:
    """Whether a path is a folder of cases. A folder with DICOM files directly in it is one image.

    Args:
        source: Path to segment.
        output: Path of the result. If it is named like a folder, a DICOM file or DICOMDIR beside folders or images does
            not make one image of them.
    """
    source = Path(source)
    if not source.is_dir():
        return False
    entries = [path for path in source.iterdir() if not path.name.startswith(".")]
    if not any(_is_dicom_file(path) for path in entries):
        return True
    if output is None or named_like_a_file(Path(output)):
        return False
    return any(path.is_dir() or path.name.lower().endswith(tuple(READERS)) for path in entries)


def _is_dicom_file(path: Path) -> bool:
    named_otherwise = path.name.lower().endswith(tuple(READERS)) or path.name.startswith(".")
    with contextlib.suppress(OSError):  # of a file that may not be read, no more is known
        return path.is_file() and not named_otherwise and is_dicom(path)
    return path.name.lower().endswith(".dcm")


def find_cases(source: Path, dests: Iterable[Path], tell: bool) -> list[Case]:
    """The cases of a folder by name. Hidden files and output folders are skipped, other files with a warning."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder, expected one with the images to segment: check the path")
    found: dict[str, Case] = {}
    others: list[str] = []
    slices: list[str] = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or any(dest.resolve().is_relative_to(path.resolve()) for dest in dests):
            continue
        name = path.name if path.is_dir() else stem_of(path)
        if name is None:
            if not path.name.lower().endswith(DATA_OF_HEADERS):
                (slices if _is_dicom_file(path) else others).append(path.name)
            continue
        if name in found:
            raise InputError(
                f"{found[name].path.name} and {path.name} in {source} would both get the mask {name}: rename one"
            )
        found[name] = Case(name, path)
    if not found:
        raise InputError(f"{source} holds neither images nor folders of DICOM: name the folder with the cases")
    for names, what in (
        (others, "are not images"),
        (slices, "are DICOM outside a folder of their own"),
    ):
        if names and tell:
            few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.warn(f"{len(names)} of the files in {source} {what} and are skipped: {few}", stacklevel=3)
    return [found[name] for name in sorted(found)]


def without_pictures(cases: list[Case], bundle: Bundle, source: Path, tell: bool) -> list[Case]:
    """The cases of a bundle for volumes, without the photographs beside them."""
    volumes = [case for case in cases if not _is_photograph(case)]
    if bundle.image_format.get("format") != "hounsfield" or len(volumes) in (0, len(cases)):
        return cases
    if tell:
        few = ", ".join(case.path.name for case in cases if _is_photograph(case))
        warnings.warn(
            f"{len(cases) - len(volumes)} of the files in {source} are pictures beside volumes and are skipped: {few}",
            stacklevel=3,
        )
    return volumes


def _is_photograph(case: Case) -> bool:
    return case.path.name.lower().endswith(PHOTOGRAPHS)


def usual_ending(case: Case) -> str:
    """The default ending of a case's mask."""
    return ".png" if _is_photograph(case) else ".nii.gz"


def named_like_a_file(path: Path) -> bool:
    """Whether a path, which need not exist, has the ending of an image or mask."""
    return path.name.lower().endswith((*MASK_ENDINGS, *READERS)) and not path.is_dir()


def state_of(image: Path) -> str:
    """A checksum of the names, sizes and times of an image's files. It changes if the image is replaced.

    Args:
        image: File, or folder with the files of a DICOM series.

    Raises:
        OSError: there is no such image.
    """
    files = [path for path in image.iterdir() if path.is_file()] if image.is_dir() else files_of(image)
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(json.dumps(states).encode("ascii")).hexdigest()[:16]
