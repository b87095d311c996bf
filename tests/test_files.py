"""Result files."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from monai_r2unet.files import ABANDONED, write_json


def test_measures_that_do_not_exist_are_null_and_not_nan(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json({"dice": math.nan, "all": [1.5, np.float64(math.inf)], "validation": {"auc": math.nan, "n": 3}}, path)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"dice": None, "all": [1.5, None], "validation": {"auc": None, "n": 3}}


def abandoned(path: Path) -> Path:
    """A temporary file for `path` as a killed process leaves it, long ago."""
    left = path.with_name(f".{path.name}.0123abcd.tmp")
    left.touch()
    os.utime(left, (time.time() - ABANDONED - 1,) * 2)
    return left


def test_what_killed_processes_left_is_removed_whenever_they_were_killed(tmp_path: Path) -> None:
    for _ in range(2):
        left, other = abandoned(tmp_path / "a.json"), abandoned(tmp_path / "b.json")
        time.sleep(0.05)  # a listing of this small folder is older than it may be
        write_json({}, tmp_path / "a.json")
        assert not left.exists()
        assert other.exists()


def test_a_large_folder_is_not_listed_for_every_file_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.json").touch()
    left = abandoned(tmp_path / "7.json")
    listed = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: listed.append(path) or glob(path, pattern))
    started = time.monotonic()
    for number in range(100):
        write_json({}, tmp_path / f"{number}.json")
    took = time.monotonic() - started
    assert not left.exists()
    assert len(listed) < 10 + took / 0.05  # a hundredth of the time, at some ms each
