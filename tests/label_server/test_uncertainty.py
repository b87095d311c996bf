"""The score that selects images: its values, and the order of selection."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from monailabel.datastore.local import LocalDatastore

from label_server.active_learning import MostUncertain
from label_server.uncertainty import uncertainty
from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.reading import read_image


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter("lung", device="cpu")


@pytest.fixture(scope="module")
def chest(repository):
    return read_image(repository / "bundles/lung/sample/images/LCTSC_008.nii.gz")[:, :, 8:12:2]


def test_noise_makes_the_network_less_sure(segmenter, chest):
    generator = np.random.default_rng(0)
    values = sitk.GetArrayFromImage(chest)
    noisy = sitk.GetImageFromArray((values + generator.normal(0, 300, values.shape)).astype(np.int16))
    noisy.CopyInformation(chest)
    assert 0 < uncertainty(segmenter, chest) < uncertainty(segmenter, noisy) <= 1


def test_where_nothing_is_found_nothing_is_sure(segmenter, chest):
    assert uncertainty(segmenter, chest * 0 - 1000) == 1


def test_an_image_of_another_kind_has_no_score(segmenter, repository):
    with pytest.raises(InputError, match="one value per voxel"):
        uncertainty(segmenter, read_image(repository / "bundles/skin/sample/images/ISIC_0000014.jpg"))


def test_scoring_leaves_the_segmenter_as_it_was(segmenter, chest):
    before = sitk.GetArrayFromImage(segmenter(chest))
    uncertainty(segmenter, chest)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(segmenter(chest)), before)


def test_the_least_certain_comes_first_and_the_unscored_last(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.nii.gz").touch()
    store = LocalDatastore(str(tmp_path))
    store.update_image_info("b", {"score": 0.1})
    store.update_image_info("c", {"score": 0.2})

    def chosen():
        return MostUncertain("lung", "score")({"strategy": "s"}, store)

    assert chosen() == {"id": "c", "uncertainty": 0.2}
    store.update_image_info("c", {"strategy": {"s": {"ts": 1}}})  # long ago
    assert chosen()["id"] == "c"
    store.update_image_info("c", {"strategy": {"s": {"ts": 2**40}}})  # just now
    assert chosen()["id"] == "b"
    store.save_label("b", str(tmp_path / "b.nii.gz"), "final", {})
    assert chosen() == {"id": "a", "uncertainty": None}
