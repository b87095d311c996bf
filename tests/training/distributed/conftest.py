"""Small data for jobs of several processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.lung_examples import write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: 8 slices for training, 4 for validation, 4 for test, of 64 x 64 pixels."""
    return write_dataset(tmp_path / "data")
