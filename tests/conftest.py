"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests run in several processes; more threads than cores would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the full public data, named by MONAI_R2UNET_DATA; without it the test is skipped."""
    folder = os.environ.get("MONAI_R2UNET_DATA")
    if not folder:
        pytest.skip("MONAI_R2UNET_DATA is not set: tests on the full public data do not run")
    return Path(folder)
