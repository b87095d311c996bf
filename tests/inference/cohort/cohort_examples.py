"""Folders of cases to segment, and helpers to read the results."""

from __future__ import annotations

import csv
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.inference.cohort_records import CaseResult
from tests.helpers.lung_examples import small_ct

MASKS = ["0", "1", "2", "3", "4", "5", "6", "air", "series"]
BROKEN = ["cut", "folder", "thin"]


def write_dicom(folder: Path, image: sitk.Image) -> None:
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(image.GetSize()[2]):
        one = image[:, :, z]
        x, y, height = image.TransformIndexToPhysicalPoint((0, 0, z))
        tags = {"0008|0060": "CT", "0020|000e": "1.2.3", "0008|0018": f"1.2.3.{z + 1}"}
        tags |= {"0020|0032": f"{x}\\{y}\\{height}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{z}.dcm"))
        writer.Execute(one)


def write_twelve(folder: Path) -> Path:
    """Twelve cases of all kinds, three of them broken, and files that are not cases."""
    folder.mkdir()
    ct = small_ct(slices=2)
    for index, ending in enumerate([".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".NII.GZ", ".nii.gz"]):
        sitk.WriteImage(ct, str(folder / f"{index}{ending.lower()}"))
        (folder / f"{index}{ending.lower()}").rename(folder / f"{index}{ending}")
    write_dicom(folder / "series", ct)
    sitk.WriteImage(ct * 0 - 1000, str(folder / "air.nii.gz"))
    (folder / "cut.nii.gz").write_bytes((folder / "0.nii.gz").read_bytes()[:-500])
    (folder / "folder").mkdir()
    sitk.WriteImage(ct[:5], str(folder / "thin.nrrd"))
    (folder / "notes.txt").write_text("not an image")
    (folder / ".DS_Store").write_text("nor this")
    return folder


def write_three(folder: Path) -> Path:
    """Three cases: a, b, c."""
    folder.mkdir()
    for name in "abc":
        sitk.WriteImage(small_ct(slices=1), str(folder / f"{name}.nrrd"))
    return folder


def table(dest: Path) -> dict[str, dict[str, str]]:
    with (dest / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def statuses(results: list[CaseResult]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for result in results:
        found.setdefault(result.status, []).append(result.case)
    return found


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name.endswith(".nii.gz")}
