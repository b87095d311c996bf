"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests run in several processes; more threads than cores would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]

# The tests in these folders carry a marker, because they need minutes, data or an environment of their own.
SUITES = {
    "apps/node": "node",
    "apps/viewer": "viewer",
    "bundles/weights": "weights",
    "label_server": "label_server",
    "slicer_extension": "slicer",
    "training/distributed": "distributed",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder, marker in SUITES.items():
            if item.path.is_relative_to(REPOSITORY / "tests" / folder):
                item.add_marker(marker)


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
