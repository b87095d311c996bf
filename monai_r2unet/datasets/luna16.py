"""LUNA16: 888 chest CT scans of LIDC-IDRI in ten subsets, with lung masks made by an automatic method."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.datasets.layout import Layout, LungCase, check_counterparts, find_files
from monai_r2unet.datasets.volumes import read_volume

__all__ = ["LAYOUT"]

MASK_FOLDER = "seg-lungs-LUNA16"
LUNG_LABELS = (3, 4)  # left and right; 5 is the trachea
_SUBSET = re.compile(r"subset(\d)")
_OWN_SPLIT = {"8": "validation", "9": "test"}


def _matches(source: Path) -> bool:
    return any(path.name == MASK_FOLDER or _SUBSET.fullmatch(path.name) for path in source.iterdir())


def _cases(source: Path) -> list[LungCase]:
    # Unpacking the archives may nest a folder in one of the same name, so any depth is accepted.
    files = sorted(find_files(source, ".mhd"))
    masks = {path.stem: path for path in files if MASK_FOLDER in path.parts}
    scans = {path.stem: path for path in files if MASK_FOLDER not in path.parts}
    check_counterparts(list(scans), list(masks), source)  # masks without a scan are normal: a subset is enough
    return [
        LungCase(name, patient=name, read=partial(_read, path, masks[name]), split=_own_split(path.relative_to(source)))
        for name, path in sorted(scans.items())
    ]


def _own_split(path: Path) -> str | None:
    numbers = [match[1] for part in path.parts if (match := _SUBSET.fullmatch(part))]
    return _OWN_SPLIT.get(numbers[0], "training") if numbers else None


def _read(scan: Path, mask: Path) -> tuple[sitk.Image, sitk.Image]:
    labels = read_volume(mask)
    left, right = (labels == value for value in LUNG_LABELS)
    return read_volume(scan), left | right


LAYOUT = Layout(
    name="luna16",
    form=f"subset0/<uid>.mhd ... subset9/<uid>.mhd (or <uid>.mhd) with {MASK_FOLDER}/<uid>.mhd",
    description="LUNA16: chest CT of LIDC-IDRI, lung masks made by an automatic method (not drawn by hand)",
    licence="LUNA16: CC BY 4.0 (LIDC-IDRI: CC BY 3.0)",
    reference="LUNA16: Setio et al., Medical Image Analysis 42, 2017, doi:10.1016/j.media.2017.06.015",
    matches=_matches,
    cases=_cases,
)
