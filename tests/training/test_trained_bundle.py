"""The output folder of a training is a bundle: no option of the training is lost on the way to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser, verify_metadata

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import Bundle
from monai_r2unet.files import sha256
from monai_r2unet.networks import AttentionR2UNet, R2UNet, ResUNet
from monai_r2unet.training.trained_bundle import TrainedBundle
from tests.helpers.bundle_runs import SCHEMA
from tests.helpers.lung_examples import small_ct


@pytest.fixture(params=[AttentionR2UNet, ResUNet])
def trained(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> tuple[Path, torch.nn.Module]:
    """What a training of another network at another size writes, beside its weights."""
    network = request.param(channels=(4, 8, 16), recurrences=3, act="PRELU").eval()
    out = tmp_path / "my training"
    out.mkdir()
    torch.save(network.state_dict(), out / "model.pt")
    settings = {"slice_size": 64, "min_extent": 100, "beyond": None}
    bundle = TrainedBundle(str(repository / "bundles" / "lung"), str(tmp_path), settings)
    bundle.write(out, out / "model.pt", network, {"epochs": 3, "validation": {"val_dice": 0.5}})
    return out, network


def test_it_segments_without_options_and_without_trust(trained: tuple[Path, torch.nn.Module]) -> None:
    out, network = trained
    segmenter = Segmenter(out, "cpu")
    assert type(segmenter.network) is type(network)
    assert segmenter.inferer.slice_size == 64
    assert segmenter.inferer.min_extent == 100
    assert segmenter.inferer.beyond is None
    for name, tensor in network.state_dict().items():
        assert torch.equal(segmenter.network.state_dict()[name], tensor), name
    assert segmenter(small_ct()).GetSize() == small_ct().GetSize()


@pytest.mark.parametrize("kind", ["shipped", "new"])
def test_the_window_that_training_was_given_reaches_use(kind: str, repository: Path, tmp_path: Path) -> None:
    root, window, size = repository / "bundles" / "lung", "ct_window", 256
    if kind == "new":
        for case in range(3):
            for folder in ("images", "masks"):
                (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            image = small_ct(slices=2)
            sitk.WriteImage(image, str(tmp_path / "data" / "images" / f"{case}.nii.gz"))
            sitk.WriteImage(
                sitk.Cast(image > -300, sitk.sitkUInt8), str(tmp_path / "data" / "masks" / f"{case}.nii.gz")
            )
        assert main(["new", str(tmp_path / "own"), str(tmp_path / "data"), "--labels", "body", "--modality", "ct"]) == 0
        root, window, size = tmp_path / "own", "slice_transform", 64
    parser = ConfigParser(json.loads((root / "train.json").read_text()))
    parser.update({"bundle_root": str(root), f"{window}#a_min": -160, f"{window}#a_max": 240, "slice_size": size})
    settings = parser.get_parsed_content("report#bundle#settings")
    network = R2UNet(channels=(4, 8, 16))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "out").mkdir()
    TrainedBundle(str(root), str(tmp_path), settings).write(tmp_path / "out", tmp_path / "model.pt", network, {})
    scaling = Segmenter(tmp_path / "out", "cpu").inferer.slice_transform
    assert (scaling.a_min, scaling.a_max) == (-160, 240)
    again = ConfigParser(json.loads((tmp_path / "out" / "configs" / "train.json").read_text()))
    assert (again[f"{window}#a_min"], again[f"{window}#a_max"]) == (-160, 240)


def test_its_metadata_name_weights_and_measures(trained: tuple[Path, torch.nn.Module]) -> None:
    out, _ = trained
    bundle = Bundle(out)
    verify_metadata(meta_file=str(out / "configs" / "metadata.json"), filepath=SCHEMA)
    assert bundle.weights_state() == "present"
    assert bundle.weights_sha256 == sha256(out / "model.pt")
    assert bundle.metadata["training"]["bundle"] == "lung"
    assert bundle.metadata["training"]["validation"] == {"val_dice": 0.5}
    assert bundle.label_names == ("right lung", "left lung")


def test_it_can_be_trained_on_with_other_options(trained: tuple[Path, torch.nn.Module]) -> None:
    out, network = trained
    config: dict[str, Any] = json.loads((out / "configs" / "train.json").read_text())
    made = ConfigParser(config).get_parsed_content("network_def")
    assert type(made) is type(network)
    made.load_state_dict(network.state_dict())
    other = ConfigParser({**config, "network_name": "R2UNet", "recurrences": 1}).get_parsed_content("network_def")
    assert type(other).__name__ == "R2UNet"
    assert other.arguments["recurrences"] == 1
    assert other.arguments["act"] == "PRELU"


def test_a_bundle_is_not_written_over_itself(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    torch.save({}, tmp_path / "model.pt")
    TrainedBundle(str(tmp_path), ".", {}).write(tmp_path, tmp_path / "model.pt", torch.nn.Identity(), {})
    assert (tmp_path / "configs" / "metadata.json").read_text() == "{}"
    assert not (tmp_path / "models").exists()
