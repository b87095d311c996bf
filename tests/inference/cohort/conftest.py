"""An engine with random weights, and folders of cases for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_r2unet import Segmenter
from tests.helpers.lung_examples import copy_bundle
from tests.inference.cohort.cohort_examples import write_three, write_twelve


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = copy_bundle(tmp_path_factory.mktemp("bundles"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def segmenter(bundles: Path) -> Segmenter:
    return Segmenter("lung", "cpu")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_twelve(tmp_path / "cases")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    return write_three(tmp_path / "three")
