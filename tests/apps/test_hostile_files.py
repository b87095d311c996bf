"""Hostile files: weights and configurations that would execute code do not, unless the user allowed it."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import find_bundle
from monai_r2unet.images.reading import read_image
from tests.helpers.lung_examples import copy_bundle, small_ct
from tests.networks.test_weights import Malicious


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is not shipped."""
    return copy_bundle(tmp_path_factory.mktemp("bundles")) / "lung"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    sitk.WriteImage(small_ct(), str(tmp_path / "ct.nrrd"))
    return tmp_path


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def run(arguments: list[object], capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> tuple[int, str]:
    patch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pickle", "torch"])
@pytest.mark.parametrize("checksum", ["kept", "none", "of the file"])
def test_weights_in_a_bundle_are_not_executed(
    bundle: Path,
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    checksum: str,
) -> None:
    evil = shutil.copytree(bundle, work / "evil")
    content = {"head.weight": Malicious(work / "marker")}
    weights = evil / "models" / "model.pt"
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    if kind == "torch":
        torch.save(content, weights)
    else:
        weights.write_bytes(pickle.dumps(content))
    metadata = json.loads((evil / "configs" / "metadata.json").read_text())
    now = hashlib.sha256(weights.read_bytes()).hexdigest()
    metadata["weights"]["sha256"] = {"kept": before, "none": None, "of the file": now}[checksum]
    (evil / "configs" / "metadata.json").write_text(json.dumps(metadata))
    arguments = ["segment", work / "ct.nrrd", work / "mask.nrrd", "--bundle", evil, "--trust-bundle"]
    code, err = run(arguments, capsys, monkeypatch)
    assert code == 2
    assert err.startswith("error: damaged weights: ")
    assert err.count("\n") == 1
    assert visible(work) == ["ct.nrrd", "evil"]


def test_a_bundle_that_is_not_shipped_executes_nothing_until_it_is_allowed(
    bundle: Path, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = shutil.copytree(bundle, work / "foreign")
    config = json.loads((foreign / "configs" / "inference.json").read_text())
    config["imports"].append(f"$open({str(work / 'marker')!r}, 'w').close()")
    config["network_def"]["recurrences"] = f"$open({str(work / 'marker')!r}, 'w').close() or 2"
    (foreign / "configs" / "inference.json").write_text(json.dumps(config))
    arguments = ["segment", work / "ct.nrrd", work / "mask.nrrd", "--bundle", foreign]
    code, err = run(arguments, capsys, monkeypatch)
    assert code == 2
    assert err.startswith(f"error: the bundle {foreign} does not come with this package, and the configuration")
    assert "can execute any code" in err
    assert "--trust-bundle" in err
    assert err.count("\n") == 1
    assert visible(work) == ["ct.nrrd", "foreign"]

    assert run([*arguments, "--trust-bundle"], capsys, monkeypatch) == (0, "")
    assert visible(work) == ["ct.nrrd", "foreign", "marker", "mask.nrrd"]
    assert read_image(work / "mask.nrrd").GetSize() == (64, 64, 4)


def test_folders_that_are_no_bundles(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "nothing" / "configs").mkdir(parents=True)
    monkeypatch.chdir(work)
    for name, words in {
        "./nothing": "nothing is not a bundle, expected a folder with configs/inference.json",
        "none/lung": "none/lung is not a bundle",
        "nothing": "unknown bundle 'nothing'; available: ",
    }.items():
        code, err = run(["segment", "ct.nrrd", "mask.nrrd", "--bundle", name, "--trust-bundle"], capsys, monkeypatch)
        assert code == 2
        assert words in err
    (work / "nothing" / "configs" / "inference.json").write_text("{}")
    code, err = run(["segment", "ct.nrrd", "mask.nrrd", "--bundle", "nothing", "--trust-bundle"], capsys, monkeypatch)
    assert code == 2
    assert "inference.json lacks network_def, preprocessing, inferer, postprocessing" in err


def test_a_shipped_bundle_needs_no_trust_by_its_path_either(repository: Path) -> None:
    assert find_bundle(repository / "bundles" / "lung") == find_bundle(str(repository / "bundles" / "lung"))
    assert find_bundle(repository / "bundles" / "lung").root == find_bundle("lung").root
