"""The bundles' configurations are those that `make bundles` writes from what the bundles share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundles import build

LARGEST = 1900  # lines of JSON that are kept by hand
NAMES = [bundle.name for bundle in build.bundles()]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Another bundle of photographs: its delta, beside the shared sources."""
    shutil.copytree(build.BUNDLES / "shared", tmp_path / "shared")
    folder = tmp_path / "moles"
    folder.mkdir()
    shutil.copy(build.BUNDLES / "skin" / "delta.json", folder)
    return folder


def change(bundle: Path, **changes: object) -> None:
    path = bundle / "delta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_that_are_built(name: str) -> None:
    bundle = build.BUNDLES / name
    generated = build.built(bundle)
    for path, text in generated.items():
        assert not (bundle / path).is_symlink(), f"{path}: run make bundles"
        assert (bundle / path).read_text(encoding="utf-8") == text, f"{path}: run make bundles"
    assert set(generated) >= {"train.json", "metadata.json", "logging.conf", "configs/logging.conf"}


def test_little_is_kept_by_hand() -> None:
    kept = list(build.by_hand())
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in kept) <= LARGEST
    photographs = [path for name in NAMES if name != "lung" for path in kept if (build.BUNDLES / name) in path.parents]
    assert {path.name for path in photographs} == {"delta.json"}


def test_another_bundle_needs_its_delta(bundle: Path) -> None:
    """The one here is the skin bundle under another name."""
    skin, made = (build.built(folder) for folder in (build.BUNDLES / "skin", bundle))
    assert made == {path: text.replace("'bundles/skin'", "'bundles/moles'") for path, text in skin.items()}
    assert "else 'bundles/moles'" in made["configs/train.json"]
    assert "else 'bundles/moles'" in made["configs/inference.json"]


def test_all_reaches_every_configuration_that_has_the_key(bundle: Path) -> None:
    change(bundle, all={"threshold": 0.25, "epochs": 3, "standardize#lit_only": True})
    merged = build.merged(bundle)
    assert {name for name, config in merged.items() if config.get("threshold") == 0.25} == {"inference", "evaluate"}
    assert {name for name, config in merged.items() if config.get("epochs") == 3} == {"paper"}  # train: its own
    assert merged["train"]["epochs"] == 12
    assert all(merged[name]["standardize"]["lit_only"] for name in ("train", "inference"))
    assert "threshold" not in merged["train"]


def test_a_delta_of_no_configuration_is_an_error(bundle: Path) -> None:
    change(bundle, training={"epochs": 3})
    with pytest.raises(SystemExit, match=r"delta\.json: no configuration is called training"):
        build.built(bundle)
