"""The process in which 3D Slicer trains: its events, and that nothing is left where it does not come to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from tests.helpers.bundle_runs import environment


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three small volumes with two labels."""
    for seed in range(3):
        mask = np.zeros((2, 32, 32), np.uint8)
        mask[:, 4 : 20 + seed, 3:14] = 1
        mask[:, 8:28, 18:30] = 2
        for part, values in (("images", np.array([-1000, 100, 400], np.int16)[mask]), ("masks", mask)):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "data" / part / f"case{seed}.nrrd"))
    return tmp_path / "data"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "monai_r2unet.apps.trainer", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), text=True
    )


def next_event(process: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        assert line.startswith("@@")
        event: dict[str, Any] = json.loads(line[2:])
        if event["event"] == kind:
            return event
    raise AssertionError(f"there was no {kind}")


def test_a_training_reports_its_plan_and_epochs_and_leaves_a_bundle(source: Path, tmp_path: Path) -> None:
    process = start(source, tmp_path / "task", "--labels", "left, right", "--epochs", "2", "--device", "cpu")
    planned = next_event(process, "planned")
    assert planned["epochs"] == 2
    assert ["epochs", "2", "given"] in planned["plan"]
    for number in (1, 2):
        epoch = next_event(process, "epoch")
        assert (epoch["epoch"], epoch["epochs"]) == (number, 2)
        assert epoch["loss"] > 0
        assert 0 <= epoch["dice"] <= 1
    done = next_event(process, "done")
    assert done["bundle"] == str(tmp_path / "task" / "eval")
    process.communicate(timeout=60)
    assert process.returncode == 0
    mask = Segmenter(done["bundle"], "cpu")(source / "images" / "case0.nrrd")
    assert mask.GetSize() == (32, 32, 2)


def test_where_its_input_closes_nothing_is_left(source: Path, tmp_path: Path) -> None:
    process = start(source, tmp_path / "task", "--epochs", "10000", "--device", "cpu")
    next_event(process, "epoch")
    assert (tmp_path / "task").is_dir()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_bad_data_are_one_sentence_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    started = [
        (start(source, tmp_path / "task", "--labels", "a,b,c"), "c (3) of 3 labels are in no mask"),
        (start(source, tmp_path / "taken"), "exists already"),
        (start(tmp_path / "nowhere", tmp_path / "task"), "does not exist"),
    ]
    for process, words in started:
        event = next_event(process, "error")
        assert process.wait(timeout=10) == 2
        assert event["code"] == "input"
        assert words in event["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "taken"]
