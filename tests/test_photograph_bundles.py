"""The files of the bundles of photographs: as MONAI demands, in agreement, and different where that is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import QUIET, REPOSITORY, SCHEMA, config, file_of, in_checkout, workflow
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
from photograph_examples import BUNDLES, write_dataset, write_random_weights

from monai_r2unet.bundle import Bundle, list_bundles
from monai_r2unet.checkpoints import sha256
from monai_r2unet.networks import R2UNet

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]

NAMES = ["chase_db1", "drive", "skin", "stare"]
CROP = {
    "_target_": "monai_r2unet.photograph_transforms.CropFromSized",
    "size": [565, 584],
    "roi_start": [0, 9],
    "roi_end": [565, 574],
    "allow_missing_keys": True,
}


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def content(bundle: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((REPOSITORY / file_of(bundle, name)).read_text())
    return loaded


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """``{"a": [{"b": 1}]}`` as ``{"a#0#b": 1}``."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, one in items for key, leaf in flat(one, f"{path}#{name}".lstrip("#")).items()}
    return {path: value}


def differences(one: str, other: str, file: str) -> set[str]:
    """Where two bundles differ, as the names of the outermost keys and, below ``train`` and ``validate``, the next."""
    left, right = flat(content(one, file)), flat(content(other, file))
    keys = {key for key in left.keys() | right.keys() if left.get(key, ...) != right.get(key, ...)}
    return {"#".join(key.split("#")[: 2 if key.startswith(("train#", "validate#")) else 1]) for key in keys}


def test_there_are_these_bundles_and_lung() -> None:
    assert [bundle.name for bundle in list_bundles()] == sorted([*NAMES, "lung"])


# ---- how the bundles differ ------------------------------------------------------------------------------------------


def test_drive_differs_from_chase_db1_in_its_name_and_its_crop() -> None:
    named = {"bundle_root", "dataset_dir"}
    assert differences("chase_db1", "drive", "train") == {*named, "picture_transforms"}
    *same, crop = content("drive", "train")["picture_transforms"]
    assert same == content("chase_db1", "train")["picture_transforms"]
    assert crop == {**CROP, "keys": ["image", "label", "fov"]}
    assert differences("chase_db1", "drive", "evaluate") == {"validate#postprocessing"}
    assert content("drive", "evaluate")["validate#postprocessing"] == {**CROP, "keys": ["pred", "label", "fov"]}
    assert differences("chase_db1", "drive", "inference") == named
    assert differences("chase_db1", "drive", "multi_gpu_train") == set()
    # The paper's 190,000 patches of DRIVE and 250,000 of the others, a tenth of them for validation.
    counts = {"chase_db1": 250000, "stare": 250000, "drive": 190000}
    for name, count in counts.items():
        paper = content(name, "paper")
        assert paper["patches"] + paper["validate#dataset"]["patches"] == count
        assert paper["validate#dataset"]["patches"] * 10 == count
    assert differences("chase_db1", "drive", "paper") == {"patches", "validate#dataset"}


def test_stare_differs_from_chase_db1_in_its_name() -> None:
    for file in ("train", "inference"):
        assert differences("chase_db1", "stare", file) == {"bundle_root", "dataset_dir"}
    for file in ("evaluate", "multi_gpu_train", "paper"):
        assert differences("chase_db1", "stare", file) == set()


def test_skin_differs_from_chase_db1_in_what_a_lesion_needs() -> None:
    recipe = {"epochs", "batch_size", "lr", "loss", "train#geometry", "train#intensity"}
    sizes = {"slice_size", "patch_size", "patches"}
    assert differences("chase_db1", "skin", "train") == {
        *recipe,
        *sizes,
        "bundle_root",
        "standardize",
        "picture_transforms",
        "validate#key_metric",
    }
    assert differences("chase_db1", "skin", "inference") == {
        "bundle_root",
        "slice_size",
        "standardize",
        "postprocessing",
    }
    assert differences("chase_db1", "skin", "evaluate") == {"validate#preprocessing", "validate#handlers"}
    assert differences("chase_db1", "skin", "multi_gpu_train") == set()


def test_the_network_is_the_lung_bundle_s_with_three_channels() -> None:
    lung = content("lung", "train")["network_def"]
    for name in NAMES:
        assert content(name, "train")["network_def"] == {**lung, "in_channels": 3}


# ---- what must agree within a bundle ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_training_evaluation_and_inference_agree(name: str) -> None:
    train, inference, both = (
        config(*(file_of(name, file) for file in files)) for files in (["train"], ["inference"], ["train", "evaluate"])
    )
    for key in ("network_def", "network", "network_name", "recurrences", "slice_size", "standardize", "bundle_root"):
        assert train[key] == inference[key] == both[key], key
    for key in ("threshold", "window_size", "window_overlap", "window"):
        assert inference[key] == both[key], key
    for inferer in (inference["inferer"], both["validate#inferer"]):
        assert inferer["_target_"] == "monai_r2unet.inferers.SliceBySliceInferer"
        assert (inferer["slice_size"], inferer["slice_transform"], inferer["window"]) == (
            "@slice_size",
            "@standardize",
            "@window",
        )
    # Weights in another memory layout would round differently.
    multi = content(name, "multi_gpu_train")
    assert (
        multi["network"]["module"] == train["network"] == "$@network_def.to(@device, memory_format=torch.channels_last)"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_are_as_monai_demands(name: str) -> None:
    verify_metadata(meta_file=f"bundles/{name}/metadata.json", filepath=SCHEMA)
    bundle = Bundle(BUNDLES / name)
    assert bundle.metadata["version"] in bundle.metadata["changelog"]
    (label,) = bundle.labels
    assert set(label["terminology"]) == {"category", "type"}
    assert bundle.image_format["num_channels"] == 3
    assert bundle.weights_licence


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_the_metadata_name_or_are_said_to_be_missing(name: str) -> None:
    bundle = Bundle(BUNDLES / name)
    card = (BUNDLES / name / "docs" / "README.md").read_text()
    if bundle.weights_sha256 is None:
        assert bundle.weights_state() == "missing"
        assert "**Weights**: none come with the bundle yet: train it" in card
    else:
        assert bundle.weights_sha256 == sha256(bundle.weights)
        assert "none come with the bundle" not in card


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_as_the_metadata_say(name: str) -> None:
    for file in ("train", "inference"):
        verify_net_in_out(
            "network_def", meta_file=f"bundles/{name}/metadata.json", config_file=file_of(name, file), device="cpu", n=2
        )
    network = config(file_of(name, "inference")).get_parsed_content("network_def")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"{count / 1e6:.2f} million parameters" in Bundle(BUNDLES / name).metadata["description"]
    assert f"{count:,} parameters" in (BUNDLES / name / "docs" / "README.md").read_text()


@pytest.mark.parametrize("name", ["chase_db1", "skin"])
def test_the_workflows_have_the_properties_that_monai_demands(name: str, tmp_path: Path) -> None:
    data, weights = write_dataset(tmp_path / "data"), write_random_weights(tmp_path / "w.pt")
    for run, file in (("training", "train"), ("inference", "inference")):
        made = workflow(run, file_of(name, file), dataset_dir=data, output_dir=tmp_path, ckpt_path=weights)
        assert made.check_properties() == []


def test_the_network_is_exported_to_torchscript(tmp_path: Path) -> None:
    weights = write_random_weights(tmp_path / "w.pt")
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(weights),
        meta_file="bundles/drive/metadata.json",
        config_file=file_of("drive", "inference"),
    )
    network = R2UNet(in_channels=3).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.rand(2, 3, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts").eval()(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_bundle_finds_itself_and_its_links(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("train.json", "metadata.json", "logging.conf"):
        path = BUNDLES / name / file
        assert path.is_symlink()
        assert path.readlink() == Path("configs") / file
        assert path.is_file()
    for folder, root in ((REPOSITORY, f"bundles/{name}"), (BUNDLES / name, ".")):
        monkeypatch.chdir(folder)
        for file in ("train", "inference"):
            assert config(file_of(name, file)).get_parsed_content("bundle_root") == root
