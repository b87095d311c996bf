"""Folders of cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.cohort.cohort_examples import write_three, write_twelve


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_twelve(tmp_path / "cases")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    return write_three(tmp_path / "three")
