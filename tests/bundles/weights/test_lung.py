"""What the shipped lung weights do on the test images, measured without any code of the package but the segmenter.

The bounds are those that the project set itself before the weights were trained; the exact figures must be those of
the result file.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from nibabel import load
from sklearn.metrics import f1_score

from monai_r2unet import Segmenter
from tests.helpers.arrays import pixels, values

# F1 pooled over the pixels of the paper's test slices, and Dice of a whole scan, which is the same.
SLICES, SCAN = 0.985, 0.978


@pytest.fixture(scope="module")
def measured(repository: Path) -> dict[str, dict[str, float]]:
    found = json.loads((repository / "benchmarks" / "results" / "lung_test.json").read_text())
    return {"slices": found["paper_slices"]["pooled"], "007": found["LCTSC_007"], "008": found["LCTSC_008"]}


def test_slices_of_the_paper(data_root: Path, measured: dict[str, dict[str, float]]) -> None:
    folder, segment = data_root / "lung" / "kmader", Segmenter("lung", "cpu")
    with (folder / "split_70_30.csv").open() as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]
    truth, called = [], []
    for name in names:
        hounsfield = pixels(folder / "images" / f"{name}.png").astype(np.int16) - 1024
        mask = segment(hounsfield.T[..., None], spacing=(400 / 256, 400 / 256, 1.0))  # of unknown size
        called.append(np.asarray(mask)[..., 0].T.ravel() > 0)
        truth.append(pixels(folder / "masks" / f"{name}.png").ravel() > 0)
    assert len(names) == 79
    f1 = f1_score(np.concatenate(truth), np.concatenate(called))
    assert f1 >= SLICES
    assert f1 == pytest.approx(measured["slices"]["f1"], abs=1e-4)


@pytest.mark.parametrize(
    ("case", "image", "reference"),
    [
        ("007", "volumes/LCTSC_007_dicom", "volumes/LCTSC_007_lung.nii.gz"),
        ("008", "lung/lctsc/LCTSC_008_ct.nii.gz", "lung/lctsc/LCTSC_008_lung.nii.gz"),
    ],
)
def test_whole_scans(
    case: str, image: str, reference: str, data_root: Path, measured: dict[str, dict[str, float]]
) -> None:
    called = values(Segmenter("lung", "cpu")(str(data_root / image))).ravel() > 0
    truth = np.asarray(load(data_root / reference).dataobj).T.ravel() > 0
    dice = f1_score(truth, called)
    assert dice >= SCAN
    assert dice == pytest.approx(measured[case]["dice"], abs=1e-4)
