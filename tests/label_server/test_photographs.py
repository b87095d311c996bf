"""Photographs in a folder: retina and skin, as far as MONAI Label carries them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers import photograph_examples as examples

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from monailabel.client.client import MONAILabelClientException

from label_server.uncertainty import uncertainty
from monai_r2unet.images.reading import read_image
from monai_r2unet.segmenter import Segmenter

RETINA, SKIN = "chase_db1", "skin"
DIAMETER = 115  # pixels; width of the field of view in the data set's photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of the retina and, because no weights are needed that find anything, bundles with random ones."""
    folder = tmp_path_factory.mktemp("photographs")
    examples.write_dataset(folder / "data")
    for name in (RETINA, SKIN):
        examples.copy_bundle(name, folder)
    train = folder / RETINA / "configs" / "train.json"
    small = {"patches": 8, "batch_size": 4, "fov_diameter": DIAMETER}
    train.write_text(json.dumps(json.loads(train.read_text()) | small))
    inference = folder / RETINA / "configs" / "inference.json"
    inference.write_text(json.dumps(json.loads(inference.read_text()) | {"fov_diameter": DIAMETER}))
    with Image.open(folder / "data" / "images" / "Image_11L.png") as photograph:
        twice = photograph.resize((2 * photograph.width, 2 * photograph.height), Image.Resampling.BICUBIC)
    twice.save(folder / "data" / "images" / "twice.png")
    twice.crop((45, 40, 205, 200)).save(folder / "data" / "images" / "cropped.png")
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


def test_a_photograph_of_another_size_is_brought_to_the_networks_scale(server, folder, segment, tmp_path):
    mask, _ = server.client.infer(RETINA, "twice", {})
    image, bundle = folder / "data" / "images" / "twice.png", ("--bundle", folder / RETINA, "--trust-bundle")
    segment(image, tmp_path / "expected.png", *bundle)
    segment(image, tmp_path / "as_it_is.png", *bundle, "--scale", "1")
    np.testing.assert_array_equal(pixels(mask), pixels(tmp_path / "expected.png"))
    assert (pixels(mask) != pixels(tmp_path / "as_it_is.png")).any()


def test_a_scale_given_by_hand(server, folder, segment, tmp_path):
    models = server.client.info()["models"]
    assert models[RETINA]["config"]["scale"] == ""
    assert "scale" not in models[SKIN]["config"]
    _, told = server.client.infer(RETINA, "cropped", {"scale": ""})  # as the client sends a field left empty
    assert "no dark surround was found" in " ".join(told["warnings"])
    mask, told = server.client.infer(RETINA, "cropped", {"scale": "230px"})
    assert told["warnings"] == []
    image = folder / "data" / "images" / "cropped.png"
    segment(image, tmp_path / "expected.png", "--bundle", folder / RETINA, "--trust-bundle", "--scale", "230px")
    np.testing.assert_array_equal(pixels(mask), pixels(tmp_path / "expected.png"))
    with pytest.raises(MONAILabelClientException) as caught:
        server.client.infer(RETINA, "cropped", {"scale": "half"})
    assert "the scale is 'half', expected a factor such as 0.5" in caught.value.msg


def test_photographs_of_any_size_have_a_score(server):
    scores = server.score(f"uncertainty_{RETINA}")["scores"]
    assert set(scores) >= {"Image_11L", "twice", "cropped"}
    assert all(0 < score <= 1 for score in scores.values())


def test_an_enlarged_photograph_has_the_score_of_itself(folder):
    segmenter = Segmenter(folder / RETINA, device="cpu", trust_bundle=True, float32=True)
    seen = []

    def green(images):
        seen.append(images.shape[-2:])
        return images[:, 1:2]

    segmenter.network = green
    images = folder / "data" / "images"
    once, twice = (uncertainty(segmenter, read_image(images / f"{name}.png")) for name in ("Image_11L", "twice"))
    assert np.abs(np.subtract(seen, (125, 120))).max() <= 3, "each is seen at the network's scale, mirrored too"
    assert 0 < once < 1
    assert abs(twice - once) < 0.01


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
