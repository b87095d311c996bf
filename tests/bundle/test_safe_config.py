"""A bundle's configuration needs no trust only if nothing in it can do anything else than segment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_r2unet.bundle import find_bundle, list_bundles
from monai_r2unet.bundle.safe_config import CLASSES, first_unsafe, first_unsafe_of
from monai_r2unet.errors import InputError

NETWORK = {"_target_": "monai_r2unet.networks.nets.R2UNet", "in_channels": 1, "channels": [4, 8]}
EVIL = "$__import__('os').system('touch marker')"


def test_the_shipped_bundles_with_a_network_named_outright_are_safe() -> None:
    for bundle in list_bundles():
        config = json.loads((bundle.root / "configs" / "inference.json").read_text())
        assert "class \"$'monai_r2unet.networks.nets.'" in str(first_unsafe(config))
        config["network_def"]["_target_"] = "monai_r2unet.networks.nets.R2UNet"
        assert first_unsafe(config) is None, bundle.name


def test_every_class_on_the_list_exists() -> None:
    from monai.bundle import ComponentLocator
    from monai.utils import optional_import

    locator = ComponentLocator()
    for name in CLASSES:
        module, _, attribute = name.rpartition(".")
        if not module:
            assert locator.get_component_module_name(name), name
            continue
        assert optional_import(module, name=attribute)[1], name


SMUGGLED: dict[str, Any] = {
    "expression": {"a": EVIL},
    "nested expression": {"a": {"b": [{"c": [EVIL]}]}},
    "target": {"_target_": "os.system", "command": "touch marker"},
    "nested target": {**NETWORK, "act": {"_target_": "subprocess.Popen", "args": ["touch", "marker"]}},
    "target by expression": {"_target_": "$'os.' + 'system'", "command": "touch marker"},
    "target by reference": {"a": "os.system", "b": {"_target_": "@a", "command": "touch marker"}},
    "target that is no text": {"_target_": ["os.system"], "command": "touch marker"},
    "unlisted class of MONAI": {"_target_": "Lambdad", "keys": "image", "func": "@f"},
    "path of MONAI's own exec": {"_target_": "monai.utils.module.instantiate", "__path": "os.system"},
    "import": {"imports": ["$import subprocess"]},
    "import from": {"imports": ["$from os import system"]},
    "import as": {"imports": ["$import os as monai_r2unet"]},
    "two imports": {"imports": ["$import os, subprocess"]},
    "import elsewhere": {"postprocessing": {"_target_": "Compose", "transforms": ["$import pdb"]}},
    "requires": {**NETWORK, "_requires_": [EVIL]},
    "requires something harmless": {**NETWORK, "_requires_": ["@device"]},
    "disabled": {**NETWORK, "_disabled_": EVIL},
    "mode": {**NETWORK, "_mode_": "debug"},
    "macro of a file": {"network_def": "%/tmp/evil.json::network_def"},
    "macro of the file itself": {"a": "%imports"},
    "class chain": {"a": "$().__class__.__base__.__subclasses__()"},
    "class chain behind a good one": {"a": "$@network_def.to(@device, memory_format=torch.channels_last).__class__"},
    "call behind a good one": {"a": "$np.uint8(open('marker', 'w'))"},
    "two lines": {"a": "$np.uint8\nopen('marker', 'w')"},
    "line break at the end": {"a": "$np.uint8\n"},
    "text that ends early": {"a": "$@bundle_root + '/x' + open('marker', 'w').name + ''"},
    "text with a backslash": {"a": "$@bundle_root + '\\x27'"},
    "format of a text": {"a": "$'{0.__class__}'.format(@a)"},
    "letters that look alike": {"a": "$\uff4ep.uint8"},
    "full-width dollar is no expression but its name is": {"\uff04a": EVIL},
    "argument that names a class": {"_target_": "LoadImaged", "keys": "image", "reader": "subprocess.Popen"},
    "argument that names a writer": {"_target_": "SaveImaged", "keys": "pred", "writer": "os.system"},
    "unlisted argument": {"_target_": "DataLoader", "dataset": [], "worker_init_fn": "@f"},
    "merging key": {"+imports": ["$import os"]},
    "key with levels": {"network_def#_target_": "os.system"},
    "reference that is no name": {"a": "@x.__class__"},
    "load another file": {"a": "$monai_r2unet.networks.weights.load_weights(@network, '/etc/passwd')"},
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_nothing_is_smuggled_past_the_list(what: str) -> None:
    assert first_unsafe(SMUGGLED[what]) is not None
    assert first_unsafe({"network_def": NETWORK, "evaluator": {"handlers": [SMUGGLED[what]]}}) is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": "\u00e4"}'.encode(), "not ASCII"),
        ('{"a": "$np.uint8"}'.encode("utf-16"), "not ASCII|not JSON"),
        (b'+ADw-script+AD4-{"a": 1}', "not JSON"),
        (b'{"a": 1, "a": "$open()"}', "a key occurs twice"),
        (b'{"a": "\\u0024open()"}', "the expression"),
        (b'{"a": "\\u0025x"}', "the macro"),
        (b"[" * 100_000, "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_files_in_odd_encodings_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "inference.json").write_bytes(content)
    found = first_unsafe_of(tmp_path / "inference.json")
    assert found is not None
    assert any(word in found for word in words.split("|"))


def test_a_safe_bundle_is_found_without_trust_and_an_unsafe_one_is_refused_by_its_first_fault(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "inference.json"
    path.write_text(json.dumps({"network_def": NETWORK}))
    assert find_bundle(tmp_path).root == tmp_path.resolve()
    with pytest.raises(InputError, match="has a training, which is not on the list"):
        find_bundle(tmp_path, inference_only=False)
    path.write_text(json.dumps({"network_def": {**NETWORK, "recurrences": "$1 + 1"}}))
    with pytest.raises(InputError, match=r"has the expression '\$1 \+ 1' of network_def#recurrences, which is not on"):
        find_bundle(tmp_path)
    assert find_bundle(tmp_path, trusted=True).root == tmp_path.resolve()
