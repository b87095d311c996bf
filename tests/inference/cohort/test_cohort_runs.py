"""Folders of cases through the real command line, by one process and by several; their report and probabilities."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.cohort import segment_cohort
from monai_r2unet.inference.cohort_records import DENSITIES
from tests.helpers.lung_examples import small_ct
from tests.inference.cohort.cohort_examples import BROKEN, MASKS, files, statuses, table


def test_torchrun_loses_no_case_and_does_none_twice(
    bundles: Path, source: Path, tmp_path: Path, repository: Path
) -> None:
    """The real command line on the twelve mixed cases, shared by two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    segment = [
        "-m",
        "monai_r2unet",
        "segment",
        str(source),
        str(tmp_path / "out"),
        "--report",
        str(tmp_path / "r.json"),
    ]
    done = subprocess.run(
        [*torchrun, *segment, "--bundle", str(bundles / "lung"), "--trust-bundle", "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode != 0  # torchrun passes on that it was not 0, but as 1
    assert re.search(r"exitcode *: 3", done.stderr), done.stderr
    told = [Path(line.split("\t")[0]).name for line in done.stdout.splitlines()]
    assert sorted(told) == [f"{case}.nii.gz" for case in MASKS]  # each once
    assert sorted(re.findall(r"failed: (\w+): ", done.stderr)) == BROKEN
    rows = table(tmp_path / "out")
    assert list(rows) == sorted(MASKS + BROKEN)
    assert [case for case in rows if rows[case]["status"] == "failed"] == BROKEN
    assert [entry["case"] for entry in json.loads((tmp_path / "r.json").read_text())["cases"]] == list(rows)


def test_the_command_line_names_failures_and_does_what_is_missing(
    bundles: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve mixed cases, three of them broken: nine masks, three named failures, exit code 3; twice."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> tuple[int, list[str], str]:
        code = main(["segment", str(source), "out", "--bundle", "lung", "--device", "cpu", *more])
        out, err = capsys.readouterr()
        return code, [line.split("\t")[0] for line in out.splitlines()], err

    code, done, err = run()
    assert code == 3
    assert done == [f"out/{case}.nii.gz" for case in MASKS]
    assert re.findall(r"^failed: (\w+): ", err, re.MULTILINE) == BROKEN
    assert "Traceback" not in err
    first = table(tmp_path / "out")
    columns = {"case", "status", "voxels", "millilitres", "seconds", "message"}
    assert set(first["0"]) == columns | {f"{measure} of lung" for measure in DENSITIES}
    before = files(tmp_path / "out")
    assert set(before) == {f"{case}.nii.gz" for case in MASKS}

    (tmp_path / "out" / "2.nii.gz").unlink()
    (source / "cut.nii.gz").write_bytes((source / "0.nii.gz").read_bytes())
    code, done, err = run()
    assert code == 3
    assert done == ["out/2.nii.gz", "out/cut.nii.gz"]
    assert re.findall(r"^failed: (\w+): ", err, re.MULTILINE) == ["folder", "thin"]
    assert {name for name, time in before.items() if files(tmp_path / "out")[name] != time} == {"2.nii.gz"}
    for name in ("folder", "thin.nrrd"):
        shutil.rmtree(source / name) if name == "folder" else (source / name).unlink()
    assert run()[:2] == (0, [])


def test_a_report_and_probabilities_of_all_cases(segmenter: Segmenter, three: Path, tmp_path: Path) -> None:
    out, maps, report = tmp_path / "out", three / "maps", tmp_path / "r.json"
    (three / "b.nrrd").write_bytes(b"broken")
    segment_cohort(lambda: segmenter, three, out)  # without them: those of a and c are missing then
    results = segment_cohort(lambda: segmenter, three, out, probabilities=maps, report=report)
    assert statuses(results) == {"done": ["a", "c"], "failed": ["b"]}
    expected = segmenter.run(small_ct(slices=1), probabilities=True)
    assert expected.probabilities is not None
    assert {path.name for path in maps.iterdir()} == {"a.nii.gz", "c.nii.gz"}
    got = read_image(maps / "c.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(expected.probabilities))
    assert same_grid(got, small_ct(slices=1))

    content = json.loads(report.read_text())
    assert (content["input"], content["output"], content["bundle"]) == (str(three), str(out), "lung")
    assert content["weights_sha256"] == segmenter.weights_sha256
    assert content["versions"]["torch"]
    a, b, c = content["cases"]
    assert (a["case"], a["status"], a["output"], a["input"]) == ("a", "done", "a.nii.gz", str(three / "a.nrrd"))
    assert (a["voxels"], a["size"], a["warnings"]) == (expected.voxels, [64, 64, 1], [])
    assert a["spacing_mm"] == pytest.approx(small_ct().GetSpacing())
    assert set(a["seconds"]) == {"read", "prepare", "infer", "restore", "write"}
    assert (a["device"], a["weights_sha256"], a["bundle_version"]) == ("cpu", segmenter.weights_sha256, "0.1.0")
    assert (b["status"], b["voxels"]) == ("failed", None)
    assert "b.nrrd" in b["message"]
    assert c["case"] == "c"

    # Again there is nothing to do, and the report tells the same; other files it does not replace.
    assert statuses(segment_cohort(lambda: segmenter, three, out, probabilities=maps, report=report)) == {
        "skipped": ["a", "c"],
        "failed": ["b"],
    }
    assert json.loads(report.read_text())["cases"][0] == a
    report.write_text("{}")
    with pytest.raises(InputError, match=r"r\.json exists already and is not a report"):
        segment_cohort(lambda: segmenter, three, out, report=report)
    with pytest.raises(InputError, match="is the folder of the masks"):
        segment_cohort(lambda: segmenter, three, out, probabilities=out)
