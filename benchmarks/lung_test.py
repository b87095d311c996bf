"""Measure the shipped lung weights, once, on what they were not trained on.

    MONAI_R2UNET_DATA=<data> python benchmarks/lung_test.py

Runs `monai-r2unet segment` and `evaluate` as a user would and writes `benchmarks/results/lung_test.json`:

- the test patients 007 (512x512 DICOM series) and 008 of LCTSC, against the manual masks at their own resolution;
- the 79 test slices of the paper's lung set, pooled and per slice;
- an abdominal CT of another scanner that shows the bases of the lungs only: how much of what lies inside the body and
  is not aerated was called lung. There is no reference mask, so a voxel counts as wrong if it is soft tissue (above
  -200 HU) and lies more than 6 mm from aerated tissue (below -400 HU) inside the mask.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.bundle import find_bundle
from monai_r2unet.metrics import evaluate_case, summarize
from monai_r2unet.results import versions, write_json
from monai_r2unet.segmenter import Segmenter

RESULT = Path(__file__).parent / "results" / "lung_test.json"


def command(*arguments: str) -> None:
    """Run `monai-r2unet` and stop at the first failure."""
    subprocess.run([sys.executable, "-m", "monai_r2unet", *arguments], check=True)


def volume(image: Path, reference: Path, work: Path) -> dict[str, Any]:
    """Segment and evaluate one volume by the command line."""
    mask, report, measures = work / "mask.nii.gz", work / "report.json", work / "measures.json"
    command("segment", str(image), str(mask), "--bundle", "lung", "--report", str(report), "--overwrite")
    command("evaluate", str(mask), str(reference), "--json", str(measures), "--overwrite")
    reported = json.loads(report.read_text())
    return {
        "image": image.name,
        "size": reported["size"],
        "spacing_mm": reported["spacing_mm"],
        "millilitres": reported["millilitres"],
        "seconds": reported["seconds"],
        **json.loads(measures.read_text())["pooled"],
    }


def slices(folder: Path) -> dict[str, Any]:
    """The paper's lung set, its test slices: 16-bit PNG with HU = value - 1024."""
    segment = Segmenter("lung")
    cases = []
    with (folder / "split_70_30.csv").open() as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]
    for name in names:
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "images" / f"{name}.png"))).astype(np.int16)
        reference = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "masks" / f"{name}.png"))) > 0
        mask = segment((stored - 1024).T[..., None], spacing=(1.0, 1.0, 1.0))
        cases.append(evaluate_case(name, mask[..., 0].T, reference))
    summary = summarize(cases)
    worst = sorted(summary.pop("cases"), key=lambda case: case["dice"])[:5]
    return {**summary, "worst": [{"name": case["name"], "dice": case["dice"]} for case in worst]}


def abdomen(image: Path, work: Path) -> dict[str, Any]:
    """What of the body outside the lungs was called lung."""
    mask_file = work / "abdomen.nii.gz"
    command("segment", str(image), str(mask_file), "--bundle", "lung", "--overwrite")
    ct = sitk.ReadImage(str(image))
    mask = sitk.Cast(sitk.ReadImage(str(mask_file)), sitk.sitkUInt8)
    aerated = sitk.And(sitk.BinaryThreshold(sitk.Cast(ct, sitk.sitkFloat32), -2000, -400), mask)
    near = sitk.SignedMaurerDistanceMap(aerated, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    values, distance = sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(near)
    called = sitk.GetArrayFromImage(mask) > 0
    filled = sitk.BinaryFillhole(sitk.BinaryThreshold(sitk.Cast(ct, sitk.sitkFloat32), -300, 1e9))
    body = sitk.GetArrayFromImage(sitk.RelabelComponent(sitk.ConnectedComponent(filled))) == 1
    wrong = called & (values > -200) & (distance > 6.0)
    return {
        "image": image.name,
        "body_voxels": int(body.sum()),
        "lung_voxels": int(called.sum()),
        "soft_tissue_called_lung": int(wrong.sum()),
        "share_of_body": float(wrong.sum() / body.sum()),
    }


def main() -> None:
    """Measure and write the result file."""
    data = Path(os.environ["MONAI_R2UNET_DATA"])
    volumes, lctsc = data / "volumes", data / "lung" / "lctsc"
    bundle = find_bundle("lung")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result = {
            "command": "python benchmarks/lung_test.py",
            "weights_sha256": bundle.weights_sha256,
            "device": "cpu",
            "versions": versions(),
            "LCTSC_007": volume(volumes / "LCTSC_007_dicom", volumes / "LCTSC_007_lung.nii.gz", work),
            "LCTSC_008": volume(lctsc / "LCTSC_008_ct.nii.gz", lctsc / "LCTSC_008_lung.nii.gz", work),
            "paper_slices": slices(data / "lung" / "kmader"),
            "abdomen": abdomen(volumes / "example_ct.nii.gz", work),
        }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(result, RESULT)
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
