"""A worker with a bundle of random weights, and requests for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from monai_r2unet.images.writing import write_image
from tests.apps.worker.worker_process import NOISY, Client
from tests.helpers.arrays import values
from tests.helpers.lung_examples import copy_bundle, small_ct


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def client(bundles: Path) -> Iterator[Client]:
    client = Client([sys.executable, "-c", NOISY, str(bundles)])
    yield client
    assert client.process.stdin is not None
    client.process.stdin.close()  # with nothing to do: it leaves at once, and without complaint
    assert client.process.wait(timeout=3) == 0


@pytest.fixture(scope="module")
def expected(bundles: Path) -> np.ndarray:
    """The mask of `small_ct`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
        return values(Segmenter("lung", "cpu")(small_ct()))


@pytest.fixture
def ct(tmp_path: Path) -> str:
    write_image(small_ct(), tmp_path / "ct.nrrd")
    return str(tmp_path / "ct.nrrd")


@pytest.fixture
def long(tmp_path: Path) -> str:
    """Many seconds of work."""
    sitk.WriteImage(sitk.Tile([small_ct()] * 300, (1, 1, 300)), str(tmp_path / "long.nrrd"))
    return str(tmp_path / "long.nrrd")
