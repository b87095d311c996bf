"""LCTSC: 60 thoracic planning CTs as DICOM, with manually drawn lungs (RTSTRUCT); also your own data in this form."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.datasets.layout import Layout, LungCase, check_counterparts, find_files
from monai_r2unet.datasets.rtstruct import is_structure_set, lung_mask, referenced_series
from monai_r2unet.datasets.volumes import ENDINGS, read_volume
from monai_r2unet.errors import InputError
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.reading import read_image

__all__ = ["LAYOUT"]

_PATIENT = re.compile(r"LCTSC-(Train|Test)-.+", re.IGNORECASE)

# The CT series of one patient: SeriesInstanceUID -> folder.
Series = dict[str, Path]


def _matches(source: Path) -> bool:
    return next(find_files(source, ".dcm"), None) is not None


def _cases(source: Path) -> list[LungCase]:
    cases: list[LungCase] = []
    without: list[str] = []
    for folder, files in _patients(source).items():
        series, others = _series(files)
        if not series:
            raise InputError(f"{folder} holds DICOM files but no CT series; add the CT or remove the folder")
        mask = _mask_file(folder)
        structures = [path for path in others if is_structure_set(path)] if mask is None else []
        if len(structures) > 1:
            raise InputError(f"{folder} holds {len(structures)} RTSTRUCT files; keep the one with the lungs")
        if mask is None and not structures:
            without.append(folder.name)
            continue
        read = partial(_read_mask, series, mask) if mask else partial(_read_contours, series, structures[0])
        cases.append(LungCase(folder.name, patient=folder.name, read=read, split=_own_split(folder.name)))
    check_counterparts([case.name for case in cases] + without, [case.name for case in cases], source)
    return cases


def _patients(source: Path) -> dict[Path, list[Path]]:
    """Group the DICOM files by patient: a folder LCTSC-... at any depth, otherwise a folder in ``source``."""
    patients: dict[Path, list[Path]] = {}
    for path in sorted(find_files(source, ".dcm")):
        folders = path.relative_to(source).parts[:-1]
        depth = next((depth for depth, name in enumerate(folders) if _PATIENT.fullmatch(name)), 0)
        patients.setdefault(source.joinpath(*folders[: depth + 1]), []).append(path)
    return patients


def _series(files: list[Path]) -> tuple[Series, list[Path]]:
    """Sort the DICOM files of a patient into CT series and files that are not images."""
    series: Series = {}
    images: set[Path] = set()
    for folder in sorted({path.parent for path in files}):
        with itk_path(folder) as known:
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(known):
                names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(known, uid)
                images.update(folder / Path(name).name for name in names)
                if _modality(names[0]) == "CT":
                    series[uid] = folder
    return series, [path for path in files if path not in images]


def _modality(name: str) -> str:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
        return str(reader.GetMetaData("0008|0060")).strip()
    except RuntimeError:
        return ""


def _mask_file(folder: Path) -> Path | None:
    """Find <patient>_lung.nii.gz (or another volume format) in the patient's folder or beside it."""
    names = [place / f"{folder.name}_lung{ending}" for place in (folder, folder.parent) for ending in ENDINGS]
    return next((path for path in names if path.is_file()), None)


def _own_split(patient: str) -> str | None:
    match = _PATIENT.fullmatch(patient)
    return {"train": "training", "test": "test"}[match[1].lower()] if match else None


def _read_mask(series: Series, mask: Path) -> tuple[sitk.Image, sitk.Image]:
    if len(series) != 1:
        raise InputError(f"there are {len(series)} CT series for {mask.name}; keep the one that the mask was drawn on")
    uid, folder = next(iter(series.items()))
    return read_image(folder, series=uid), read_volume(mask)


def _read_contours(series: Series, structures: Path) -> tuple[sitk.Image, sitk.Image]:
    uid = referenced_series(structures)
    if uid is None and len(series) == 1:
        uid = next(iter(series))
    if uid not in series:
        raise InputError(
            f"{structures} was drawn on a CT series ({uid}) that is missing; add it to the patient's folder"
        )
    ct = read_image(series[uid], series=uid)
    return ct, lung_mask(ct, structures)


LAYOUT = Layout(
    name="lctsc",
    form="<patient>/<study>/<series>/*.dcm with an RTSTRUCT among them, or with <patient>_lung.nii.gz beside",
    description="LCTSC: thoracic planning CT, lungs drawn by hand",
    licence="LCTSC: CC BY 3.0",
    reference=(
        "LCTSC: Yang et al., Data from Lung CT Segmentation Challenge 2017, The Cancer Imaging Archive, "
        "doi:10.7937/K9/TCIA.2017.3r3fvz08"
    ),
    matches=_matches,
    cases=_cases,
)
