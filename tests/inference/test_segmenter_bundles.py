"""A Segmenter on bundles that are not shipped: photographs, and any inferer of MONAI."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.networks import R2UNet

SLICE_BY_SLICE = {
    "_target_": "monai_r2unet.inference.inferers.SliceBySliceInferer",
    "slice_size": None,
    "slice_transform": {"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1},
}
SLIDING_WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "overlap": 0.25}


def make_bundle(root: Path, inferer: dict[str, Any], postprocessing: list[dict[str, Any]]) -> Path:
    """A bundle of photographs with a small network and weights drawn at random."""
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    arguments = {"in_channels": 3, "channels": [4, 8]}
    torch.manual_seed(0)
    network = R2UNet(**arguments).eval()
    *_, head = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():  # half of the pixels foreground
        head.bias -= network(torch.rand(1, 3, 64, 64) * 2 - 1).median()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    metadata = {
        "version": "0.0.1",
        "labels": [{"name": "vessel", "color": [200, 0, 0]}],
        "network_data_format": {"inputs": {"image": {"num_channels": 3, "modality": "fundus photograph"}}},
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    config = {
        "network_def": {"_target_": "monai_r2unet.networks.nets.R2UNet", **arguments},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": "monai_r2unet.transforms.metatensor.SimpleITKReader",
                },
                {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
            ],
        },
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
    }
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    root = make_bundle(tmp_path_factory.mktemp("bundles") / "vessels", SLICE_BY_SLICE, [])
    return Segmenter(root, device="cpu", trust_bundle=True, float32=True)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Rows, columns, RGB."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (9, 7, 3)), np.ones((5, 4, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def mask(photographs: Segmenter, picture: np.ndarray) -> np.ndarray:
    found = photographs(picture)
    assert found.shape == picture.shape[:2]
    assert 0 < found.sum() < found.size
    return found


def test_a_picture_gives_the_same_mask_in_every_kind(
    photographs: Segmenter, picture: np.ndarray, mask: np.ndarray, tmp_path: Path
) -> None:
    image = sitk.GetImageFromArray(picture, isVector=True)
    from_image = photographs(image)
    assert from_image.GetSize() == image.GetSize() == (28, 45)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(from_image), mask)

    sitk.WriteImage(image, str(tmp_path / "eye.png"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(photographs(tmp_path / "eye.png")), mask)

    tensor = photographs(MetaTensor(torch.from_numpy(picture.transpose(1, 0, 2).copy())))
    assert isinstance(tensor, MetaTensor)
    np.testing.assert_array_equal(tensor.numpy().T, mask)


def test_pictures_stacked_in_a_volume_are_segmented_one_by_one(
    photographs: Segmenter, picture: np.ndarray, mask: np.ndarray
) -> None:
    volume = sitk.GetImageFromArray(np.stack([picture, picture[::-1]]), isVector=True)
    volume.SetOrigin((3.0, 4.0, 5.0))
    found = photographs(volume)
    assert found.GetOrigin() == volume.GetOrigin()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found)[0], mask)
    assert found.GetSize() == (28, 45, 2)
    stacked = photographs(np.stack([picture, picture[::-1]]).transpose(2, 1, 0, 3), spacing=(1.0, 1.0, 1.0))
    np.testing.assert_array_equal(stacked, sitk.GetArrayFromImage(found).transpose(2, 1, 0))


def test_probabilities_of_a_picture(photographs: Segmenter, picture: np.ndarray, mask: np.ndarray) -> None:
    found, probabilities = photographs(picture, probabilities=True)
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(probabilities >= 0.5, mask == 1)


@pytest.mark.parametrize("shape", [(45, 28), (45, 28, 4)])
def test_a_picture_without_three_channels_is_refused(photographs: Segmenter, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes three, as an RGB photograph has|must be one|spacing"):
        photographs(np.zeros(shape, np.uint8))


def test_a_bundle_may_use_any_inferer_of_monai(picture: np.ndarray, tmp_path: Path) -> None:
    scale = {"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1}
    root = make_bundle(
        tmp_path / "windows",
        SLIDING_WINDOW,
        [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ],
    )
    config = json.loads((root / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"].append({**scale, "_target_": "ScaleIntensityRanged", "keys": "image"})
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    segment = Segmenter(root, device="cpu", trust_bundle=True)
    progress: list[tuple[int, int]] = []
    image = sitk.GetImageFromArray(picture, isVector=True)
    result = segment.run(image, on_progress=lambda done, total: progress.append((done, total)))
    assert progress == [(1, 1)]
    found = sitk.GetArrayFromImage(result.mask)
    assert found.shape == picture.shape[:2]
    assert set(np.unique(found)) == {0, 1}
    with pytest.raises(InputError, match="gives no probabilities, because its inferer is SlidingWindowInferer"):
        segment.run(image, probabilities=True)


def test_the_weights_are_loaded_once_for_ten_images(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_bundle(tmp_path / "vessels", SLICE_BY_SLICE, [])
    loads: list[Any] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs))
    segment = Segmenter(root, device="cpu", trust_bundle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = [segment(np.roll(picture, shift, axis=0)) for shift in range(10)]
    assert len(loads) == 1
    assert len({mask.tobytes() for mask in masks}) > 1
