"""The densities of a CT mask, in the report, the table and the worker's answer, are those of an independent count."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.apps.cli.main import main
from monai_r2unet.apps.worker.protocol import Request
from monai_r2unet.apps.worker.run import Run
from monai_r2unet.apps.worker.runner import Runner
from tests.helpers.arrays import values
from tests.helpers.lung_examples import copy_bundle, small_ct


class Silent:
    """A worker to whom nobody listens, and who cancels nothing."""

    cancelled = 0.0
    changed = threading.Condition()

    def send(self, event: str, **content: object) -> None:
        pass


def test_report_table_and_worker_agree_with_an_independent_count(tmp_path: Path) -> None:
    bundle = copy_bundle(tmp_path) / "lung"
    cases = tmp_path / "cases"
    cases.mkdir()
    ct = small_ct()
    sitk.WriteImage(ct, str(cases / "a.nii.gz"))
    options = ["--bundle", str(bundle), "--trust-bundle", "--device", "cpu"]
    main(
        ["segment", str(cases / "a.nii.gz"), str(tmp_path / "a.nii.gz"), "--report", str(tmp_path / "a.json"), *options]
    )
    inside = values(ct)[values(sitk.ReadImage(str(tmp_path / "a.nii.gz"))) > 0].astype(float)
    expected = {
        "mean_hu": inside.mean(),
        "median_hu": np.median(inside),
        "std_hu": inside.std(),
        "p15_hu": np.percentile(inside, 15),
        "laa950_percent": 100 * (inside < -950).mean(),
        "opacified_percent": 100 * ((inside >= -500) & (inside <= 100)).mean(),
    }
    (reported,) = json.loads((tmp_path / "a.json").read_text())["densitometry"].values()
    assert {measure: reported[measure] for measure in expected} == pytest.approx(expected)
    assert reported["volume_ml"] == pytest.approx(inside.size * np.prod(ct.GetSpacing()) / 1000)

    main(["segment", str(cases), str(tmp_path / "masks"), *options])
    (row,) = csv.DictReader((tmp_path / "masks" / "summary.csv").open(encoding="utf-8"))
    assert {measure: float(row[f"{measure} of lung"]) for measure in expected} == pytest.approx(expected, abs=0.006)

    request = Request(str(bundle), str(cases / "a.nii.gz"), str(tmp_path / "b.nii.gz"), device="cpu", trust_bundle=True)
    event, answer = Runner().do(Run(request, Silent(), 1))
    assert event == "done"
    assert answer["densitometry"]["lung"] == reported
