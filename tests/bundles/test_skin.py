"""The skin bundle as MONAI runs it: complete images fitted into a square, in training and inference."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_r2unet.apps.cli.main import main
from monai_r2unet.metrics import confusion
from monai_r2unet.networks import R2UNet
from tests.helpers.arrays import pixels
from tests.helpers.bundle_runs import QUIET, checkpoint, command, file_of, history, in_checkout, process, workflow
from tests.helpers.photograph_examples import BUNDLES, copy_bundle, write_dataset, write_random_weights

TRAIN, EVALUATE, INFERENCE, PAPER = (file_of("skin", name) for name in ("train", "evaluate", "inference", "paper"))
SAMPLE = BUNDLES / "skin" / "sample"
SIZE = 64

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_random_weights(tmp_path / "weights.pt")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of the sample, cropped to sizes that are larger, smaller, wider and higher than the network's."""
    folder = tmp_path / "data"
    entries = json.loads((SAMPLE / "datalist.json").read_text())["test"][:4]
    for entry, size in zip(entries, [(200, 120), (50, 40), (64, 64), (30, 90)], strict=True):
        for name in (entry["image"], entry["label"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(SAMPLE / name)
            left, top = ((picture.size[axis] - size[axis]) // 2 for axis in (0, 1))
            picture.crop((left, top, left + size[0], top + size[1])).save(folder / name)
    (folder / "datalist.json").write_text(json.dumps({"training": entries, "validation": entries, "test": entries}))
    return folder


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def test_training_on_the_embedded_sample(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"output_dir": out, "epochs": 2, "slice_size": 32, "batch_size": 11, "seed": 1, "device": "cpu"}
    done = process(command("training", "bundles/skin/train.json", **options))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    results = json.loads((out / "results.json").read_text())
    assert (results["training_images"], results["validation_images"], results["patch_size"]) == (12, 4, 32)
    (shown,) = re.findall(r"^val_best_threshold +([\d.]+)$", done.stdout, re.MULTILINE)
    assert shown == f"{results['validation']['val_best_threshold']:.4f}"
    best = max(history(out), key=lambda row: row["val_dice"])
    assert results["best_epoch"] == best["epoch"]
    assert results["validation"]["val_dice"] == pytest.approx(best["val_dice"], abs=1e-6)
    R2UNet(in_channels=3).load_state_dict(torch.load(out / "model.pt", weights_only=True))
    assert checkpoint(out, 2)["trainer"]["iteration"] == 2  # 12 images, 11 at a time, twice; the last is left out


def test_evaluating_inference_and_segment_agree(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last pixel; and a folder of images is one command."""
    options: dict[str, Any] = {"dataset_dir": data, "ckpt_path": weights, "slice_size": SIZE}
    workflow("evaluating", TRAIN, EVALUATE, output_dir=tmp_path / "e", **options).run()
    workflow("inference", INFERENCE, output_dir=tmp_path / "i", **options).run()
    content = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert "inside_fov" not in content

    bundles = copy_bundle("skin", tmp_path / "bundles", slice_size=SIZE)
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    capsys.readouterr()
    folder = tmp_path / "masks"
    assert main(["segment", str(data / "images"), str(folder), "--bundle", "skin", "--ending", ".png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    with (folder / "summary.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    for case, entry in zip(content["cases"], json.loads((data / "datalist.json").read_text())["test"], strict=True):
        name = Path(entry["image"]).stem
        found = pixels(folder / f"{name}.png") > 0
        assert 0 < found.mean() < 1
        np.testing.assert_array_equal(pixels(tmp_path / "i" / f"{name}_lesion.png"), 255 * found)
        reference = pixels(data / entry["label"]) > 0
        assert vars(confusion(found, reference)).items() <= case.items()
        assert f"{folder / name}.png\t{found.sum()} pixels" in lines
        assert (rows[name]["voxels"], rows[name]["millilitres"]) == (str(found.sum()), "")


def test_the_network_sees_in_use_what_it_was_trained_on(data: Path, weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": data, "ckpt_path": weights, "output_dir": tmp_path / "o"}
    training = workflow("training", TRAIN, slice_size=SIZE, **options)
    shown = [item["image"] for item in training.parser.get_parsed_content("validate#dataset")]
    used = []
    inference = workflow("inference", INFERENCE, slice_size=SIZE, mirror=False, **options)
    network = inference.parser.get_parsed_content("network")
    network.register_forward_pre_hook(lambda _, inputs: used.append(inputs[0][0].float()))
    inference.run()
    assert len(used) == len(shown) == 4
    for seen, expected in zip(used, shown, strict=True):
        assert seen.shape == (3, SIZE, SIZE)
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_fields_of_view_are_of_no_account(weights: Path, tmp_path: Path) -> None:
    """A data list may have them; this bundle does not load them."""
    data = write_dataset(tmp_path / "data")
    options: dict[str, Any] = {"dataset_dir": data, "output_dir": tmp_path / "o", "slice_size": SIZE}
    workflow("training", TRAIN, epochs=1, batch_size=2, **options).run()
    workflow("evaluating", TRAIN, EVALUATE, ckpt_path=weights, **options).run()
    content = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert content["pooled"]["pixels"] == 2 * 125 * 120


def test_the_recipe_of_the_paper(data: Path, tmp_path: Path) -> None:
    options = {"batch_size": 4, "slice_size": SIZE}  # of four images
    made = workflow("training", TRAIN, PAPER, dataset_dir=data, output_dir=tmp_path, **options)
    loss, optimizer, scheduler, trainer, dataset = (
        made.parser.get_parsed_content(name)
        for name in ("loss", "optimizer", "lr_scheduler", "train#trainer", "train#dataset")
    )
    assert type(loss) is torch.nn.BCEWithLogitsLoss
    assert type(optimizer) is torch.optim.Adam
    assert trainer.state.max_epochs == 150
    for _ in range(20):
        assert optimizer.param_groups[0]["lr"] == 2e-4
        optimizer.step()
        scheduler.step()
    paper = json.loads(Path(PAPER).read_text())
    assert (paper["batch_size"], paper["slice_size"]) == (32, 256)
    # No augmentation: every epoch shows the same images, and every image is that of the validation.
    images = [item["image"].half().float() for item in made.parser.get_parsed_content("validate#dataset")]
    for _ in range(2):
        drawn = [image for batch in dataset for image in batch["image"]]
        assert len(drawn) == 4
        assert all(sum(torch.equal(image, one) for one in drawn) == 1 for image in images)
