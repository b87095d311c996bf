"""What MONAI's model zoo demands of a bundle, for all five: its continuous integration's checks, without a network.

The zoo runs them from outside the bundle's folder and names that folder, so the bundles are copied and checked there.
What it takes from elsewhere is here: the metadata's schema lies in ``data``; that no version is given out twice cannot
be known before the first is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, create_workflow, verify_metadata, verify_net_in_out
from monai.data import load_net_with_metadata

from monai_r2unet import __version__
from monai_r2unet.bundle import Bundle, list_bundles
from monai_r2unet.files import sha256
from monai_r2unet.inference.config import InferenceConfig
from monai_r2unet.networks.weights import load_weights
from tests.helpers import photograph_examples
from tests.helpers.bundle_runs import QUIET, REPOSITORY, SCHEMA, in_checkout
from tests.helpers.lung_examples import write_dataset, write_random_weights

TRUSTED = "ignore:parsing config_file"  # what MONAI says of every configuration
pytestmark = [pytest.mark.filterwarnings(warning) for warning in [*QUIET, TRUSTED]]

BUNDLES = {bundle.name: bundle for bundle in list_bundles()}
each_bundle = pytest.mark.parametrize("name", BUNDLES)
LARGEST = 25 << 20  # bytes

# What the zoo's CONTRIBUTING asks for, in the spelling of MONAI's parser.
KEYS = {
    "inference": ["bundle_root", "device", "network_def", "inferer", "output_dir"],
    "train": [
        *("bundle_root", "device", "dataset_dir", "output_dir", "val_interval"),
        *(f"train#{key}" for key in ("trainer", "trainer#max_epochs", "dataset", "dataset#data", "handlers")),
        *(f"validate#{key}" for key in ("evaluator", "handlers", "dataset", "dataset#data")),
        *("train#inferer", "validate#inferer", "validate#postprocessing", "validate#key_metric"),
    ],
}
# Of its template for model cards, under the names that ours have.
SECTIONS = ["Intended use and limits", "Data", "Training", "Evaluation and inference", "Licences"]


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


@pytest.fixture
def bundle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A copy as the zoo would have it: ``models/<name>``, with random weights where ours are not trained yet."""
    root = tmp_path / "models" / name
    shutil.copytree(BUNDLES[name].root, root, ignore=shutil.ignore_patterns("sample", "eval", "data"))
    copy = Bundle(root)
    if not copy.weights.is_file():
        copy.weights.parent.mkdir(exist_ok=True)
        random_weights(name, copy.weights)
    monkeypatch.chdir(tmp_path)
    return copy


def random_weights(name: str, path: Path) -> Path:
    write = write_random_weights if name == "lung" else photograph_examples.write_random_weights
    return write(path)


def files_of(bundle: Bundle) -> dict[str, str]:
    return {"meta_file": str(bundle.root / "configs/metadata.json"), "bundle_root": str(bundle.root)}


# ---- files -----------------------------------------------------------------------------------------------------------


@each_bundle
def test_the_files_are_there_and_small(name: str) -> None:
    root = BUNDLES[name].root
    for file in ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/train.json"):
        assert (root / file).is_file(), file
    assert (root / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    assert (root / "docs" / "data_license.txt").read_text().strip()
    assert not list(root.glob("large_files.*"))  # every file is in the bundle
    large = [path for path in root.rglob("*") if path.is_file() and path.stat().st_size > LARGEST]
    assert not large
    for path in (root / "configs").iterdir():
        assert not re.search(r"/home/|/root/|/Users/|[A-Z]:\\\\", path.read_text()), path


@each_bundle
def test_the_weights_are_those_the_metadata_name(name: str) -> None:
    bundle = BUNDLES[name]
    card = (bundle.root / "docs" / "README.md").read_text()
    assert bundle.weights_licence
    assert bundle.weights == bundle.root / bundle.metadata["weights"]["file"]
    assert bundle.weights_sha256 == sha256(bundle.weights)
    assert "none come with the bundle" not in card
    assert re.search("^## Results$", card, re.MULTILINE)


@each_bundle
def test_the_model_card_has_its_sections(name: str) -> None:
    bundle = BUNDLES[name]
    card = (bundle.root / "docs" / "README.md").read_text()
    title, *rest = re.findall("^(#+ .*)$", re.sub("```.*?```", "", card, flags=re.DOTALL), re.MULTILINE)
    assert title.endswith(", R2U-Net: model card")
    assert not [section for section in SECTIONS if f"## {section}" not in rest]
    network = ConfigParser(ConfigParser.load_config_file(str(bundle.root / "configs/inference.json")))
    count = sum(parameter.numel() for parameter in network.get_parsed_content("network_def").parameters())
    assert f"{count:,} parameters" in card
    assert f"{count / 1e6:.2f} million parameters" in bundle.metadata["description"]


# ---- metadata --------------------------------------------------------------------------------------------------------


@each_bundle
def test_the_metadata_have_the_form_of_the_schema(name: str, bundle: Bundle, tmp_path: Path) -> None:
    verify_metadata(meta_file=str(bundle.root / "configs/metadata.json"), filepath=SCHEMA)
    verify_metadata(meta_file=str(bundle.root / "metadata.json"), filepath=SCHEMA)
    metadata = bundle.metadata
    assert metadata["schema"].endswith(f"/{SCHEMA.name}")
    without = {key: value for key, value in metadata.items() if key != "copyright"}
    changes: list[dict[str, Any]] = [{"task": 3}, {"network_data_format": {"inputs": {}}}, {"references": "one"}]
    for wrong in [without, *(metadata | change for change in changes)]:
        (tmp_path / "metadata.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="Failed validating"):
            verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=SCHEMA)


@each_bundle
def test_versions_are_stated_and_those_that_are_tested(name: str) -> None:
    metadata = BUNDLES[name].metadata
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["version"] in metadata["changelog"]
    # The zoo installs exactly these.
    pinned = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        package, _, version = line.partition(" ;")[0].partition("==")
        pinned.setdefault(package.lower(), set()).add(version)
    asked = {f"{package}": metadata[f"{package}_version"] for package in ("monai", "numpy")}
    asked |= {"torch": metadata["pytorch_version"], **metadata["required_packages_version"]}
    assert asked.pop("monai-r2unet") == __version__
    for package, version in asked.items():
        assert version in pinned[package.lower()], package


# ---- configurations --------------------------------------------------------------------------------------------------


@each_bundle
def test_the_properties_are_those_that_monai_and_the_zoo_demand(name: str, bundle: Bundle, tmp_path: Path) -> None:
    data = (write_dataset if name == "lung" else photograph_examples.write_dataset)(tmp_path / "data")
    for kind, keys in KEYS.items():
        workflow = create_workflow(
            workflow_type=kind,
            config_file=str(bundle.root / "configs" / f"{kind}.json"),
            logging_file=str(bundle.root / "configs" / "logging.conf"),
            **{**files_of(bundle), "dataset_dir": str(data), "output_dir": str(tmp_path), "device": "cpu"},
        )
        assert workflow.check_properties() == []
        assert [key for key in keys if key not in workflow.parser] == []


@each_bundle
def test_the_network_maps_what_the_metadata_say(name: str, bundle: Bundle) -> None:
    for file in ("inference", "train"):
        config = str(bundle.root / "configs" / f"{file}.json")
        verify_net_in_out("network_def", config_file=config, device="cpu", **files_of(bundle))


@each_bundle
def test_the_network_is_exported_to_torchscript(name: str, bundle: Bundle) -> None:
    config, file = bundle.root / "configs" / "inference.json", bundle.root / "models" / "verify_model.ts"
    ckpt_export("network_def", str(file), ckpt_file=str(bundle.weights), config_file=str(config), **files_of(bundle))
    loaded, metadata, extra = load_net_with_metadata(str(file), more_extra_files=("inference.json",))
    assert metadata["version"] == bundle.metadata["version"]
    assert json.loads(extra["inference.json"]) == json.loads(config.read_text())
    assert file.stat().st_size < LARGEST
    network = InferenceConfig(bundle.root, "cpu").part("network_def").eval()
    load_weights(network, bundle.weights)
    images = torch.rand(2, bundle.image_format["num_channels"], 48, 33)  # a size that needs padding
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(images), network(images))
