"""Photographs in a folder: retina and skin, as far as MONAI Label carries them."""

from __future__ import annotations

import json

import numpy as np
import photograph_examples as examples
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

RETINA, SKIN = "chase_db1", "skin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of the retina and, because no weights are needed that find anything, bundles with random ones."""
    folder = tmp_path_factory.mktemp("photographs")
    examples.write_dataset(folder / "data")
    for name in (RETINA, SKIN):
        examples.copy_bundle(name, folder)
    train = folder / RETINA / "configs" / "train.json"
    train.write_text(json.dumps(json.loads(train.read_text()) | {"patches": 8, "batch_size": 4}))
    return folder


@pytest.fixture(scope="module")
def server(serve, folder):
    bundles = ("--bundles", str(folder / RETINA), str(folder / SKIN), "--trust-bundle")
    with serve(folder / "data" / "images", folder / "work", *bundles) as server:
        yield server


def pixels(path):
    return np.asarray(Image.open(path))


def test_both_bundles_are_offered_with_their_labels(server):
    models = server.client.info()["models"]
    assert models[RETINA]["labels"] == {"retinal vessels": 1}
    assert models[SKIN]["labels"] == {"skin lesion": 1}
    assert {model["dimension"] for model in models.values()} == {2}


@pytest.mark.parametrize("bundle", [RETINA, SKIN])
def test_inference_is_the_command_lines(server, folder, segment, tmp_path, bundle):
    mask, told = server.client.infer(bundle, "Image_11L", {})
    image = folder / "data" / "images" / "Image_11L.png"
    segment(image, tmp_path / "expected.png", "--bundle", folder / bundle, "--trust-bundle")
    np.testing.assert_array_equal(pixels(mask), pixels(tmp_path / "expected.png"))
    assert 0 < told["voxels"] < pixels(mask).size


def test_labels_train_new_weights(server, folder):
    client = server.client
    for case in ("Image_01L", "Image_01R"):
        client.save_label(case, str(folder / "data" / "labels" / f"{case}.png"), params={"model": RETINA})
    before, _ = client.infer(RETINA, "Image_11L", {})
    told = server.train(RETINA, max_epochs=2, freeze_norm=False)
    assert told.startswith("DONE"), told
    stats = client.info()["train_stats"][RETINA]
    assert (stats["training_images"], stats["validation_images"]) == (1, 1)
    after, _ = client.infer(RETINA, "Image_11L", {})
    assert (pixels(before) != pixels(after)).any()


def test_the_least_certain_photograph_is_next(server):
    key = f"uncertainty_{SKIN}"
    scores = server.score(key)["scores"]
    assert server.client.next_sample(key, {})["id"] == max(scores, key=scores.__getitem__)
