"""An engine with random weights, which stands in for the shipped lung bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_r2unet import Segmenter
from tests.helpers.lung_examples import copy_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = copy_bundle(tmp_path_factory.mktemp("bundles"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def segmenter(bundles: Path) -> Segmenter:
    return Segmenter("lung", "cpu")
