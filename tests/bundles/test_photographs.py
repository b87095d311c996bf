"""The files of the bundles of photographs: in agreement, and different where that is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from monai_r2unet.bundle import Bundle, list_bundles
from tests.helpers.bundle_runs import QUIET, REPOSITORY, config, file_of, in_checkout
from tests.helpers.photograph_examples import BUNDLES

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]

NAMES = ["chase_db1", "drive", "skin", "stare"]
CROP = {
    "_target_": "monai_r2unet.transforms.photographs.CropFromSized",
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
    named = {"bundle_root", "dataset_dir", "fov_diameter"}
    assert differences("chase_db1", "drive", "train") == {*named, "picture_transforms"}
    *same, crop = content("drive", "train")["picture_transforms"]
    assert same == content("chase_db1", "train")["picture_transforms"]
    assert crop == {**CROP, "keys": ["image", "label", "fov"]}
    # Threshold and mirror images: each its own, from validation.
    assert differences("chase_db1", "drive", "evaluate") == {"threshold", "mirror", "validate#postprocessing"}
    assert content("drive", "evaluate")["validate#postprocessing"] == {**CROP, "keys": ["pred", "label", "fov"]}
    assert differences("chase_db1", "drive", "inference") == {*named, "threshold", "mirror"}
    assert differences("chase_db1", "drive", "multi_gpu_train") == set()
    # The paper's 190,000 patches of DRIVE and 250,000 of the others, a tenth of them for validation.
    counts = {"chase_db1": 250000, "stare": 250000, "drive": 190000}
    for name, count in counts.items():
        paper = config(file_of(name, "train"), file_of(name, "paper"))
        training, validation = (paper.get_parsed_content(key) for key in ("patches", "validate#dataset#patches"))
        assert training + validation == count
        assert validation * 10 == count
    assert differences("chase_db1", "drive", "paper") == {"patches"}


def test_stare_differs_from_chase_db1_in_its_name() -> None:
    named = {"bundle_root", "dataset_dir", "fov_diameter"}
    assert differences("chase_db1", "stare", "train") == named
    assert differences("chase_db1", "stare", "inference") == {*named, "threshold"}
    assert differences("chase_db1", "stare", "evaluate") == {"threshold"}
    for file in ("multi_gpu_train", "paper"):
        assert differences("chase_db1", "stare", file) == set()


def test_skin_differs_from_chase_db1_in_what_a_lesion_needs() -> None:
    recipe = {"epochs", "lr", "loss", "train#geometry", "train#intensity"}
    sizes = {"slice_size", "fov_diameter", "patch_size", "patches"}
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
        "threshold",
        "slice_size",
        "fov_diameter",
        "standardize",
        "postprocessing",
    }
    assert differences("chase_db1", "skin", "evaluate") == {
        "threshold",
        "exact_auc",
    }
    read = {name: config(file_of(name, "train"), file_of(name, "evaluate")) for name in ("chase_db1", "skin")}
    for name, keys in (("chase_db1", ["image", "label", "fov"]), ("skin", ["image", "label"])):
        assert [step["keys"] for step in read[name]["validate#preprocessing#transforms"]] == [keys, keys]
        assert read[name].get_parsed_content("exact_auc") == (name == "chase_db1")
        assert read[name]["validate#handlers#0#exact_auc"] == "@exact_auc"
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
    shared = ("network_def", "network", "network_name", "recurrences", "slice_size", "fov_diameter", "standardize")
    for key in (*shared, "bundle_root"):
        assert train[key] == inference[key] == both[key], key
    for key in ("threshold", "window_size", "window_overlap", "window"):
        assert inference[key] == both[key], key
    for inferer in (inference["inferer"], both["validate#inferer"]):
        assert inferer["_target_"] == "monai_r2unet.inference.inferers.SliceBySliceInferer"
        assert (inferer["slice_size"], inferer["slice_transform"], inferer["window"]) == (
            "@slice_size",
            "@standardize",
            "@window",
        )
        assert inferer["fov_diameter"] == "@fov_diameter"
    # Weights in another memory layout would round differently.
    multi = content(name, "multi_gpu_train")
    made = "@network_def.to(@device, memory_format=torch.channels_last)"
    assert (train["network"], multi["network"]) == (f"${made}", f"$monai_r2unet.training.distributed.parallel({made})")


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_tell_of_a_photograph_and_one_label(name: str) -> None:
    bundle = Bundle(BUNDLES / name)
    (label,) = bundle.labels
    assert set(label["terminology"]) == {"category", "type"}
    assert bundle.image_format["num_channels"] == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_bundle_finds_itself_and_its_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("train.json", "metadata.json", "logging.conf"):
        path = BUNDLES / name / file
        assert not path.is_symlink()  # which Windows checks out as text
        assert path.read_bytes() == (BUNDLES / name / "configs" / file).read_bytes()
    for folder, root in ((REPOSITORY, f"bundles/{name}"), (BUNDLES / name, ".")):
        monkeypatch.chdir(folder)
        for file in ("train", "inference"):
            assert config(file_of(name, file)).get_parsed_content("bundle_root") == root
