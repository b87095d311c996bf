"""The retina bundles as MONAI runs them: training, interruption, evaluation, inference and several processes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from ignite.engine import Engine, Events
from monai.inferers import sliding_window_inference
from PIL import Image
from sklearn.metrics import roc_auc_score

from monai_r2unet.apps.cli.main import main
from monai_r2unet.errors import find_input_error
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.precision import run_fast
from monai_r2unet.metrics import confusion
from monai_r2unet.networks import ForwardUNet, R2UNet
from monai_r2unet.transforms.photographs import Standardize
from tests.helpers.arrays import pixels
from tests.helpers.bundle_runs import (
    QUIET,
    assert_equal,
    checkpoint,
    command,
    file_of,
    history,
    in_checkout,
    kill_training_after_two_epochs,
    process,
    workflow,
)
from tests.helpers.photograph_examples import BUNDLES, PHOTOGRAPHS, copy_bundle, write_dataset, write_random_weights

TRAIN, EVALUATE, INFERENCE, MULTI_GPU, PAPER = (
    file_of("chase_db1", name) for name in ("train", "evaluate", "inference", "multi_gpu_train", "paper")
)
PATCHES = {"patch_size": 16, "patches": 8, "batch_size": 4}

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_random_weights(tmp_path / "weights.pt")


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


# ---- training --------------------------------------------------------------------------------------------------------


def test_training_on_the_embedded_sample(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"output_dir": out, "epochs": 1, "seed": 5, "network_name": "ForwardUNet", "device": "cpu"}
    done = process(
        command("training", "bundles/chase_db1/train.json", patch_size=32, patches=18, batch_size=4, **options)
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    table = done.stdout[done.stdout.index("measure ") :]
    shown = dict(re.findall(r"^(val_\w+) +([\d.]+|-)$", table, re.MULTILINE))
    results = json.loads((out / "results.json").read_text())
    assert shown == {name: f"{value:.4f}" for name, value in results["validation"].items()}
    assert {"val_dice", "val_auc", "val_best_threshold"} < set(shown)
    (row,) = history(out)
    assert row["val_dice"] == pytest.approx(results["validation"]["val_dice"], abs=1e-6)
    described = {"network": "ForwardUNet", "seed": 5, "patches": 18, "patch_size": 32, "batch_size": 4}
    assert {key: results[key] for key in described} == described
    assert (results["training_images"], results["validation_images"]) == (8, 2)
    for figure in ("learning_curve.png", "overlays.png"):
        assert min(Image.open(out / figure).size) > 300
    ForwardUNet(in_channels=3).load_state_dict(torch.load(out / "model.pt", weights_only=True))
    assert checkpoint(out, 1)["trainer"]["iteration"] == 4  # 18 patches in fours; the rest is left out


def test_a_killed_training_is_resumed_where_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"dataset_dir": data, "output_dir": out, "seed": 3, **PATCHES}
    arguments = command("training", TRAIN, epochs=1000, device="cpu", **options)
    reached = kill_training_after_two_epochs(arguments, out)
    saved = checkpoint(out, reached)
    # As if its first epoch had been better than any other will be.
    rows = history(out)[:reached]
    rows[0]["val_dice"] = 0.99999
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    torch.save(saved["model"], out / "model.pt")
    best = (out / "model.pt").read_bytes()

    resumed = workflow("training", TRAIN, epochs=reached + 1, resume=True, **options)
    objects = {
        name: resumed.parser.get_parsed_content(name) for name in ("network", "optimizer", "lr_scheduler", "early_stop")
    }
    compared = []

    def compare(trainer: Engine) -> None:
        assert_equal(dict(objects["network"].state_dict()), dict(saved["model"]))
        assert_equal(objects["optimizer"].state_dict(), saved["optimizer"])
        assert objects["early_stop"].state_dict() == saved["early_stop"]
        assert saved["early_stop"]["best_score"] is not None
        assert objects["lr_scheduler"].last_epoch == trainer.state.iteration == 2 * reached
        compared.append(trainer.state.epoch)

    resumed.parser.get_parsed_content("train#trainer").add_event_handler(Events.STARTED, compare)
    resumed.run()
    assert compared == [reached]
    assert history(out)[:-1] == rows
    assert [row["epoch"] for row in history(out)] == list(range(1, reached + 2))
    assert (out / "model.pt").read_bytes() == best
    assert json.loads((out / "results.json").read_text())["best_epoch"] == 1


def test_two_processes_train_together(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = {"dataset_dir": data, "output_dir": out, "epochs": 1, "patch_size": 16, "patches": 16, "batch_size": 4}
    done = process([*launcher, *command("training", TRAIN, MULTI_GPU, **options)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Validation with the weights of the best epoch (1)") == 1
    assert done.stderr.count("Epoch 1/1 ") == 1
    R2UNet(in_channels=3).load_state_dict(torch.load(out / "model.pt", weights_only=True))
    (row,) = history(out)
    assert json.loads((out / "results.json").read_text())["validation"]["val_dice"] == pytest.approx(row["val_dice"])
    assert checkpoint(out, 1)["trainer"]["iteration"] == 2  # 16 patches in fours, by two processes


def test_the_recipe_of_the_paper(data: Path, tmp_path: Path) -> None:
    """Fixed patches of 48 x 48 pixels, training and validation alike, as they are; Adam at 2e-4."""
    fewer = {"patches": 64, "validate#dataset#patches": 32, "epochs": 1}
    made = workflow("training", TRAIN, PAPER, dataset_dir=data, output_dir=tmp_path / "out", **fewer)
    loss, optimizer, scheduler, training, validation = (
        made.parser.get_parsed_content(name)
        for name in ("loss", "optimizer", "lr_scheduler", "train#dataset", "validate#dataset")
    )
    assert type(loss) is torch.nn.BCEWithLogitsLoss
    assert type(optimizer) is torch.optim.Adam
    for patches, count in ((training, 64), (validation, 32)):
        assert all(batch["image"].shape == (32, 3, 48, 48) for batch in patches)
        assert len(patches) == count // 32
        epochs = [sorted(one.sum().item() for batch in patches for one in batch["image"]) for _ in range(2)]
        assert epochs[0] == epochs[1]
    made.run()
    assert [group["lr"] for group in optimizer.param_groups] == [2e-4]
    assert scheduler.last_epoch == 2
    assert history(tmp_path / "out")[0]["val_accuracy"] > 0


def test_a_data_list_with_fields_of_view_for_some_is_refused(data: Path, weights: Path, tmp_path: Path) -> None:
    datalist = json.loads((data / "datalist.json").read_text())
    del datalist["test"][0]["fov"]
    (data / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(RuntimeError) as caught:
        workflow("evaluating", TRAIN, EVALUATE, dataset_dir=data, output_dir=tmp_path / "o", ckpt_path=weights).run()
    assert "1 of 2 images have a field of view" in str(find_input_error(caught.value))
    assert not (tmp_path / "o").exists()


# ---- evaluation and inference ----------------------------------------------------------------------------------------


def evaluated(folder: Path, **options: Any) -> dict[str, Any]:
    workflow("evaluating", TRAIN, EVALUATE, output_dir=folder, **options).run()
    result: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return result


def test_the_best_threshold_is_told_of_validation_photographs_only(data: Path, weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": data, "ckpt_path": weights, "mirror": True}
    assert "best_threshold" not in evaluated(tmp_path / "test", **options)
    best = evaluated(tmp_path / "validation", split="validation", **options)["best_threshold"]
    dice = [
        evaluated(tmp_path / str(threshold), split="validation", threshold=threshold, **options)["inside_fov"]["pooled"]
        for threshold in (best, best - 0.02, best + 0.02)
    ]
    assert max(one["dice"] for one in dice) == dice[0]["dice"] > 0


def test_evaluating_inference_and_segment_agree(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the documented commands, to the last pixel and the last pair of pixels of the exact AUC."""
    options = {"dataset_dir": data, "ckpt_path": weights, "output_dir": tmp_path / "out", "device": "cpu"}
    options["fov_diameter"] = "$None"  # MONAI drops a plain None
    done = process(command("evaluating", TRAIN, EVALUATE, **options))
    assert done.returncode == 0, done.stderr
    assert "inside_fov: 2 images" in done.stdout
    assert "whole_image: 2 images" in done.stdout
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    done = process(command("inference", "configs/inference.json", **options), BUNDLES / "chase_db1")
    assert done.returncode == 0, done.stderr

    bundles = copy_bundle("chase_db1", tmp_path / "bundles")
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    scores, references, fields = [], [], []
    for name, inside, whole in zip(
        PHOTOGRAPHS["test"], content["inside_fov"]["cases"], content["whole_image"]["cases"], strict=True
    ):
        mask, maps = tmp_path / f"{name}.png", tmp_path / f"{name}.nrrd"
        image, arguments = data / "images" / f"{name}.png", ["--device", "cpu", "--probabilities", str(maps)]
        assert main(["segment", str(image), str(mask), "--bundle", "chase_db1", *arguments]) == 0
        found = pixels(mask) > 0
        assert capsys.readouterr().out == f"{mask}\t{found.sum()} pixels\n"
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{name}_vessels.png"), 255 * found)
        reference, fov = (pixels(data / kind / f"{name}.png") > 0 for kind in ("labels", "fov"))
        assert 0.05 < found.mean() < 0.95
        assert 0.3 < fov.mean() < 0.9
        for case, valid in ((whole, None), (inside, fov)):
            assert vars(confusion(found, reference, valid)).items() <= case.items()
        scores.append(sitk.GetArrayFromImage(read_image(maps)).reshape(found.shape))
        references.append(reference)
        fields.append(fov)
    score, reference, fov = (np.concatenate(parts) for parts in (scores, references, fields))
    assert content["whole_image"]["pooled"]["auc"] == pytest.approx(
        roc_auc_score(reference.ravel(), score.ravel()), abs=1e-9
    )
    assert content["inside_fov"]["pooled"]["auc"] == pytest.approx(roc_auc_score(reference[fov], score[fov]), abs=1e-9)
    assert content["inside_fov"]["pooled"]["auc_error_bound"] == 0


def test_without_fields_of_view_there_is_one_result(weights: Path, tmp_path: Path) -> None:
    options = {"ckpt_path": weights}
    with_fov = evaluated(tmp_path / "1", dataset_dir=write_dataset(tmp_path / "with"), **options)
    without = evaluated(tmp_path / "2", dataset_dir=write_dataset(tmp_path / "without", fov=False), **options)
    assert "inside_fov" not in without
    assert without["pooled"] == with_fov["whole_image"]["pooled"]
    assert with_fov["inside_fov"]["pooled"]["pixels"] < without["pooled"]["pixels"] == 2 * 125 * 120


def test_the_threshold_decides(data: Path, weights: Path, tmp_path: Path) -> None:
    one, other = (
        evaluated(tmp_path / str(threshold), dataset_dir=data, ckpt_path=weights, threshold=threshold)
        for threshold in (0.5, 0.8)
    )
    assert other["threshold"] == 0.8
    assert other["whole_image"]["pooled"]["sensitivity"] < one["whole_image"]["pooled"]["sensitivity"]
    assert other["whole_image"]["pooled"]["auc"] == one["whole_image"]["pooled"]["auc"]


def test_patch_by_patch(data: Path, weights: Path, tmp_path: Path) -> None:
    """As MONAI's own sliding window on the standardised photograph; with one window over all as in one pass."""
    options = {"dataset_dir": data, "ckpt_path": weights, "threshold": 0.5, "mirror": False}
    masks = {}
    for size in (None, 32, 128):
        workflow("inference", INFERENCE, output_dir=tmp_path / str(size), window_size=size, **options).run()
        masks[size] = pixels(tmp_path / str(size) / "Image_11L_vessels.png") > 0
    network = R2UNet(in_channels=3).eval().to(memory_format=torch.channels_last)
    network.load_state_dict(torch.load(weights, weights_only=True))
    image = torch.from_numpy(pixels(data / "images" / "Image_11L.png").copy()).permute(2, 1, 0)
    with torch.no_grad():
        logits = sliding_window_inference(
            Standardize(lit_only=True)(image)[None], (32, 32), 64, lambda x: run_fast(network, x), overlap=0.5
        )
    np.testing.assert_array_equal(masks[32], (logits[0, 0].T.float().sigmoid() >= 0.5).numpy())
    assert 0.5 < (masks[32] == masks[None]).mean() < 1
    # Padded to one window, the network sees other surroundings than the photograph's own.
    assert (masks[128] == masks[None]).mean() > 0.9

    patches = evaluated(tmp_path / "e", window_size=32, **options)
    assert patches["window_size"] == 32
    (case, _) = patches["whole_image"]["cases"]
    assert case["tp"] + case["fp"] == masks[32].sum()


def test_photographs_of_drive_are_cropped_for_training_and_evaluation_only(weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "d").mkdir()
    for name, size in (("drive", (584, 565)), ("other", (80, 64))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / "d" / f"{name}.png")
        Image.fromarray(255 * rng.integers(0, 2, size, dtype=np.uint8)).save(tmp_path / "d" / f"{name}_l.png")
    entries = [
        {"image": f"{name}.png", "label": f"{name}_l.png", "fov": f"{name}_l.png"} for name in ("drive", "other")
    ]
    datalist = {"training": entries, "validation": entries[1:], "test": entries}
    (tmp_path / "d" / "datalist.json").write_text(json.dumps(datalist))
    options = {"dataset_dir": tmp_path / "d", "output_dir": tmp_path / "o", "ckpt_path": weights}

    made = workflow("training", file_of("drive", "train"), **options)
    prepared = [
        made.parser.get_parsed_content("train#preprocessing")(entry)
        for entry in made.parser.get_parsed_content("train#dataset").data
    ]
    assert [tuple(one["image"].shape) for one in prepared] == [(3, 565, 565), (3, 64, 80)]

    workflow("evaluating", file_of("drive", "train"), file_of("drive", "evaluate"), **options).run()
    cases = json.loads((tmp_path / "o" / "evaluation.json").read_text())["whole_image"]["cases"]
    assert [sum(case[key] for key in ("tp", "fp", "tn", "fn")) for case in cases] == [565 * 565, 64 * 80]
    reference = pixels(tmp_path / "d" / "drive_l.png")[9:574] > 0
    assert cases[0]["tp"] + cases[0]["fn"] == reference.sum()

    workflow("inference", file_of("drive", "inference"), **options).run()
    masks = [pixels(tmp_path / "o" / f"{name}_vessels.png") for name in ("drive", "other")]
    assert [mask.shape for mask in masks] == [(584, 565), (80, 64)]
    assert cases[0]["tp"] == (reference & (masks[0][9:574] > 0)).sum()
