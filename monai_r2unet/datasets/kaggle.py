"""Kaggle "Finding and Measuring Lungs in CT Data" (K. S. Mader): 267 axial slices with masks, as TIFF."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.datasets.layout import Layout, LungCase, check_counterparts, find_files
from monai_r2unet.datasets.volumes import read_volume
from monai_r2unet.errors import InputError

__all__ = ["LAYOUT"]

_NAME = re.compile(r"(ID_\d+)_Z_\d+")


def _matches(source: Path) -> bool:
    return (source / "2d_images").is_dir()


def _cases(source: Path) -> list[LungCase]:
    images = {path.stem: path for path in sorted(find_files(source / "2d_images", ".tif"))}
    masks = {path.stem: path for path in sorted(find_files(source / "2d_masks", ".tif"))}
    check_counterparts(list(images), list(masks), source)
    return [
        LungCase(name, patient=_patient(path), read=partial(_read, path, masks[name])) for name, path in images.items()
    ]


def _patient(path: Path) -> str:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise InputError(f"{path} is not named ID_<patient>_Z_<slice>.tif, so its patient is unknown; rename it")
    return match[1]


def _read(image: Path, mask: Path) -> tuple[sitk.Image, sitk.Image]:
    return read_volume(image), read_volume(mask)


LAYOUT = Layout(
    name="kaggle",
    form="2d_images/ID_<patient>_Z_<slice>.tif with 2d_masks/ID_<patient>_Z_<slice>.tif",
    description=(
        "Kaggle lungs: single axial CT slices, raw values taken as HU though they are not exactly that, voxel size "
        "unknown and set so that a slice is 400 mm wide"
    ),
    licence="Kaggle lungs: not established, see the data set's page",
    reference="Kaggle lungs: K. S. Mader, Finding and Measuring Lungs in CT Data, kaggle.com",
    matches=_matches,
    cases=_cases,
    # 70 % of the patients for training, a tenth of them for validation, and 30 % for test, as in the R2U-Net paper.
    validation=0.07,
    test=0.3,
)
