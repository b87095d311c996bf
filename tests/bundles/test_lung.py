"""The lung bundle as MONAI runs it: training, interruption, evaluation, inference, several processes, and its files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import find_input_error
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_image
from monai_r2unet.metrics import evaluate_case
from monai_r2unet.networks import R2UNet, RUNet
from monai_r2unet.networks.weights import latest
from tests.helpers import bundle_runs
from tests.helpers.arrays import values
from tests.helpers.bundle_runs import (
    QUIET,
    REPOSITORY,
    assert_equal,
    checkpoint,
    command,
    config,
    history,
    in_checkout,
    kill_training_after_two_epochs,
    process,
)
from tests.helpers.lung_examples import LUNG, SIZE, copy_bundle, small_ct, write_dataset, write_random_weights

TRAIN = "bundles/lung/train.json"
EVALUATE = "bundles/lung/configs/evaluate.json"
INFERENCE = "bundles/lung/configs/inference.json"
MULTI_GPU = "bundles/lung/configs/multi_gpu_train.json"
PAPER = "bundles/lung/configs/paper.json"
RECIPE = "bundles/lung/configs/weights_recipe.json"


pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: 8 slices for training, 4 for validation, 4 for test, of 64 x 64 pixels."""
    return write_dataset(tmp_path / "data")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_random_weights(tmp_path / "weights.pt")


@pytest.fixture
def segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """The engine on the same random weights, working on 64 x 64 pixels."""
    folder = copy_bundle(tmp_path / "bundles")
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    return Segmenter("lung", "cpu")


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def workflow(run: str, *config_files: str, **overrides: object) -> ConfigWorkflow:
    """On 64 x 64 pixels, unless something else is asked for."""
    return bundle_runs.workflow(run, *config_files, **{"slice_size": SIZE, **overrides})


def train(**overrides: object) -> ConfigWorkflow:
    made = workflow("training", TRAIN, **overrides)
    made.run()
    made.finalize()
    return made


# ---- training --------------------------------------------------------------------------------------------------------


def test_training_reports_and_its_options_act(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"network_name": "RUNet", "recurrences": 3, "batch_size": 3, "lr": 0.003, "seed": 5, "device": "cpu"}
    places = {"dataset_dir": data, "output_dir": out}
    done = process(command("training", TRAIN, epochs=2, slice_size=SIZE, **places, **options))
    assert done.returncode == 0, done.stderr

    # What it shows.
    table = done.stdout[done.stdout.index("measure ") :]
    shown = dict(re.findall(r"^(val_\w+) +([\d.]+|-)$", table, re.MULTILINE))
    results = json.loads((out / "results.json").read_text())
    assert shown == {name: f"{value:.4f}" for name, value in results["validation"].items()}
    assert {"val_dice", "val_accuracy", "val_sensitivity", "val_specificity", "val_auc"} < set(shown)
    rows = history(out)
    for row in rows:
        (line,) = [line for line in done.stderr.splitlines() if f"Epoch {row['epoch']:.0f}/2 " in line]
        assert "loss" in line
        assert f"val_dice {row['val_dice']:.4f}" in line
    assert "Traceback" not in done.stderr

    # What it leaves.
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["train_loss"]) for row in rows)
    best = max(rows, key=lambda row: row["val_dice"])
    assert results["best_epoch"] == best["epoch"]
    assert results["validation"]["val_dice"] == pytest.approx(best["val_dice"], abs=1e-6)
    assert (results["network"], results["recurrences"], results["batch_size"]) == ("RUNet", 3, 3)
    assert (results["lr"], results["seed"], results["device"]) == (0.003, 5, "cpu")
    assert (results["epochs"], results["training_slices"], results["validation_slices"]) == (2, 8, 4)
    for figure in ("learning_curve.png", "overlays.png"):
        assert min(sitk.ReadImage(str(out / figure)).GetSize()) > 300

    # What it did.
    model = torch.load(out / "model.pt", weights_only=True)
    RUNet(recurrences=3).load_state_dict(model)
    state = checkpoint(out, 2)
    assert_equal(model, checkpoint(out, int(best["epoch"]))["model"])
    assert (state["trainer"]["epoch_length"], state["trainer"]["iteration"]) == (2, 4)  # 8 slices in threes
    assert state["optimizer"]["param_groups"][0]["initial_lr"] == 0.003
    assert state["optimizer"]["state"][0]["step"] == 4


def test_a_killed_training_is_resumed_where_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"dataset_dir": data, "output_dir": out, "seed": 3}
    arguments = command("training", TRAIN, epochs=1000, slice_size=SIZE, device="cpu", **options)
    reached = kill_training_after_two_epochs(arguments, out)
    assert reached >= 1
    saved = checkpoint(out, reached)
    # As if it had been killed while it wrote the next one.
    whole = Path(latest(out / "resume")).read_bytes()
    (out / "resume" / "checkpoint_epoch=999.pt").write_bytes(whole[:-1000])
    # And as if its first epoch had been better than any other will be.
    rows = history(out)[:reached]
    assert [row["epoch"] for row in rows] == list(range(1, reached + 1))
    rows[0]["val_dice"] = 0.99999
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    torch.save(saved["model"], out / "model.pt")
    best = (out / "model.pt").read_bytes()

    resumed = workflow("training", TRAIN, epochs=reached + 1, resume=True, **options)
    parser = resumed.parser
    objects = {name: parser.get_parsed_content(name) for name in ("network", "optimizer", "lr_scheduler", "early_stop")}
    compared = []

    def compare(trainer: Engine) -> None:
        assert (trainer.state.epoch, trainer.state.iteration) == (reached, saved["trainer"]["iteration"])
        assert_equal(dict(objects["network"].state_dict()), dict(saved["model"]))
        assert_equal(objects["optimizer"].state_dict(), saved["optimizer"])
        assert objects["early_stop"].state_dict() == saved["early_stop"]
        assert saved["early_stop"]["best_score"] is not None
        assert objects["lr_scheduler"].state_dict() == saved["lr_scheduler"]
        assert objects["lr_scheduler"].last_epoch == trainer.state.iteration == 2 * reached
        compared.append(reached)

    parser.get_parsed_content("train#trainer").add_event_handler(Events.STARTED, compare)
    resumed.run()
    assert compared == [reached]
    assert history(out)[:-1] == rows
    assert history(out)[-1]["epoch"] == reached + 1
    after = checkpoint(out, reached + 1)
    assert after["trainer"]["iteration"] == after["optimizer"]["state"][0]["step"] == 2 * (reached + 1)
    # What was best before the interruption still is.
    assert (out / "model.pt").read_bytes() == best
    assert json.loads((out / "results.json").read_text())["best_epoch"] == 1


def test_resuming_needs_a_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow("training", TRAIN, dataset_dir=data, output_dir=tmp_path / "out", resume=True)
    assert "no checkpoint to resume from" in str(find_input_error(caught.value))


def test_the_seed_decides(data: Path, tmp_path: Path) -> None:
    losses = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        train(dataset_dir=data, output_dir=out, epochs=1, seed=seed)
        losses.append(history(out)[0])
    assert losses[0] == losses[1]
    assert losses[0]["train_loss"] != losses[2]["train_loss"]


def test_training_stops_when_nothing_improves(data: Path, tmp_path: Path) -> None:
    """And a batch may be larger than the data, and training may start from given weights."""
    weights = write_random_weights(tmp_path / "w.pt")
    out = tmp_path / "out"
    options = {"batch_size": 100, "epochs": 40, "patience": 2, "lr": 1e-9, "init_weights": weights}
    made = workflow("training", TRAIN, dataset_dir=data, output_dir=out, **options)
    start = made.parser.get_parsed_content("network").state_dict()
    assert_equal(dict(start), dict(torch.load(weights, weights_only=True)))
    made.run()
    rows = history(out)
    best = max(rows, key=lambda row: row["val_dice"])
    assert len(rows) == best["epoch"] + 2 < 40
    assert json.loads((out / "results.json").read_text())["best_epoch"] == best["epoch"]
    assert checkpoint(out, len(rows))["trainer"]["epoch_length"] == 1


def test_two_processes_train_together(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = {"dataset_dir": data, "output_dir": out, "epochs": 1, "slice_size": SIZE, "batch_size": 2}
    done = process([*launcher, *command("training", TRAIN, MULTI_GPU, **options)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Validation with the weights of the best epoch (1)") == 1
    assert done.stderr.count("Epoch 1/1 ") == 1
    R2UNet().load_state_dict(torch.load(out / "model.pt", weights_only=True))  # without the wrapper's prefix
    (row,) = history(out)
    assert json.loads((out / "results.json").read_text())["validation"]["val_dice"] == pytest.approx(row["val_dice"])
    assert checkpoint(out, 1)["trainer"]["iteration"] == 2  # 8 slices in twos, by two processes


def test_mlflow_tracks_a_training(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed, and nothing but --tracking mlflow needs it")
    train(dataset_dir=data, output_dir=tmp_path / "out", epochs=1, tracking="mlflow")
    assert (tmp_path / "out" / "mlruns.db").exists()


# ---- evaluation and inference ----------------------------------------------------------------------------------------


def test_evaluating_agrees_with_segment_and_evaluate(segmenter: Segmenter, weights: Path, tmp_path: Path) -> None:
    """On the embedded test case, by the documented commands, to the last voxel."""
    out = tmp_path / "out"
    options = {"ckpt_path": weights, "output_dir": out, "slice_size": SIZE, "device": "cpu"}
    done = process(command("evaluating", TRAIN, EVALUATE, **options))
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "evaluation.json").read_text())
    (case,) = content["cases"]
    assert (content["split"], content["weights"], content["dataset_dir"]) == (
        "test",
        str(weights),
        "bundles/lung/sample",
    )
    assert f"dice{case['dice']:.4f}" in done.stdout.replace(" ", "")
    assert content["pooled"]["auc"] > 0

    image, label = LUNG / "sample/images/LCTSC_008.nii.gz", LUNG / "sample/labels/LCTSC_008.nii.gz"
    mask, measures = str(tmp_path / "mask.nrrd"), str(tmp_path / "m.json")
    assert main(["segment", str(image), mask, "--bundle", "lung", "--weights", str(weights), "--no-clean-up"]) == 0
    assert main(["evaluate", mask, str(label), "--json", measures]) == 0
    (own,) = json.loads(Path(measures).read_text())["cases"]
    assert {k: v for k, v in own.items() if k not in ("name", "auc")} == {
        k: v for k, v in case.items() if k not in ("name", "auc")
    }


def test_inference_in_the_bundle_folder_agrees_with_the_segmenter(
    segmenter: Segmenter, weights: Path, tmp_path: Path
) -> None:
    options = {"ckpt_path": weights, "output_dir": tmp_path / "out", "slice_size": SIZE, "device": "cpu"}
    done = process(command("inference", "configs/inference.json", **options), LUNG)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "LCTSC_008_lung.nii.gz"
    mask, expected = read_image(written), segmenter(LUNG / "sample/images/LCTSC_008.nii.gz")
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert same_grid(mask, expected)
    np.testing.assert_array_equal(values(mask), values(expected))


@pytest.mark.parametrize("axes", ["RAS", "PIR"])
def test_volumes_stored_in_other_ways_are_evaluated_and_segmented_on_their_own_grid(
    segmenter: Segmenter, weights: Path, data: Path, tmp_path: Path, axes: str
) -> None:
    for kind in ("images", "labels"):
        stored = sitk.DICOMOrient(small_ct(kind=kind), axes)
        write_image(stored, data / kind / "LCTSC_008.nii.gz", overwrite=True)
    straight = values(segmenter(small_ct(), clean_up=False))  # evaluation measures the network
    expected = sitk.DICOMOrient(segmenter(small_ct()), axes)
    options = {"dataset_dir": data, "output_dir": tmp_path / "out", "ckpt_path": weights}

    workflow("inference", INFERENCE, **options).run()
    mask = read_image(tmp_path / "out" / "LCTSC_008_lung.nii.gz")
    assert same_grid(mask, expected)
    np.testing.assert_array_equal(values(mask), values(expected))

    workflow("evaluating", TRAIN, EVALUATE, **options).run()
    (case,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["cases"]
    assert case["dice"] == evaluate_case("", straight, values(small_ct(kind="labels"))).measures["dice"]


# ---- bad data --------------------------------------------------------------------------------------------------------


def test_a_folder_without_data_list_is_told_in_one_sentence(tmp_path: Path) -> None:
    done = process(command("training", TRAIN, dataset_dir=tmp_path, output_dir=tmp_path / "out"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.rstrip().endswith(sentence)
    assert f"{tmp_path} has no datalist.json" in sentence
    assert '{"training": [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}]' in sentence
    assert not (tmp_path / "out").exists()


def test_missing_files_are_counted_and_the_first_three_named(data: Path, tmp_path: Path) -> None:
    datalist = json.loads((data / "datalist.json").read_text())
    names = [f"images/{letter}.nii.gz" for letter in "abcde"]
    datalist["training"] += [{"image": name, "label": "labels/LCTSC_000.nii.gz"} for name in names]
    (data / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(RuntimeError) as caught:
        workflow("training", TRAIN, dataset_dir=data, output_dir=tmp_path / "out")
    sentence = str(find_input_error(caught.value))
    assert "5 do not exist" in sentence
    assert [name in sentence for name in names] == [True, True, True, False, False]
    assert "and 2 more" in sentence


@pytest.mark.parametrize("run", ["training", "evaluating"])
def test_an_image_and_a_label_of_different_shapes_are_named(
    data: Path, weights: Path, tmp_path: Path, run: str
) -> None:
    name = {"training": "LCTSC_001", "evaluating": "LCTSC_008"}[run]
    write_image(small_ct(name, slices=3, kind="labels"), data / "labels" / f"{name}.nii.gz", overwrite=True)
    files = {"training": [TRAIN], "evaluating": [TRAIN, EVALUATE]}[run]
    with pytest.raises(RuntimeError) as caught:
        workflow(run, *files, dataset_dir=data, output_dir=tmp_path / "out", ckpt_path=weights).run()
    sentence = str(find_input_error(caught.value))
    assert f"{name}.nii.gz" in sentence
    assert "64, 64, 4)" in sentence
    assert "64, 64, 3)" in sentence


# ---- the files -------------------------------------------------------------------------------------------------------


def test_training_evaluation_and_inference_agree() -> None:
    train_config, inference = config(TRAIN), config(INFERENCE)
    both = config(TRAIN, EVALUATE)
    for name in ("network_def", "network_name", "recurrences", "slice_size", "bundle_root"):
        assert train_config[name] == inference[name] == both[name]
    (window,) = [t for t in train_config["volume_transforms"] if t["_target_"] == "ScaleIntensityRanged"]
    window = {key: value for key, value in window.items() if key not in ("_target_", "keys")}
    assert window["clip"] is True
    for parser, inferer in ((inference, "inferer"), (both, "validate#inferer")):
        assert parser[f"{inferer}#slice_transform"] == {"_target_": "ScaleIntensityRange", **window}
        assert parser[f"{inferer}#slice_size"] == "@slice_size"
    (fit,) = [t for t in train_config["volume_transforms"] if t["_target_"].endswith("FitInPlaned")]
    assert fit["size"] == "@slice_size"
    assert Bundle(LUNG).image_format["fill_value"] == window["a_min"]
    orientations = [
        [t["axcodes"] for t in transforms if t["_target_"] == "Orientationd"]
        for transforms in (
            train_config["volume_transforms"],
            inference["preprocessing#transforms"],
            both["volume_preprocessing#transforms"],
        )
    ]
    assert orientations == [["LPS"]] * 3


@pytest.mark.parametrize("name", ["ForwardUNet", "RUNet", "ResUNet", "R2UNet", "AttentionR2UNet"])
def test_every_network_of_the_paper_can_be_chosen(name: str) -> None:
    for file in (TRAIN, INFERENCE):
        parser = config(file)
        parser.update({"network_name": name, "recurrences": 3})
        assert type(parser.get_parsed_content("network_def")).__name__ == name


@pytest.mark.parametrize(("folder", "root"), [(REPOSITORY, "bundles/lung"), (LUNG, ".")], ids=["checkout", "bundle"])
def test_the_bundle_finds_itself(folder: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for file in (TRAIN, INFERENCE):
        parser = config(file)
        assert parser.get_parsed_content("bundle_root") == root
        assert parser.get_parsed_content("ckpt_path" if file == INFERENCE else "dataset_dir").startswith(root)


def test_the_files_of_the_root_are_those_of_the_configs() -> None:
    for name in ("train.json", "metadata.json", "logging.conf"):
        path = LUNG / name
        assert not path.is_symlink()  # which Windows checks out as text
        assert path.read_bytes() == (LUNG / "configs" / name).read_bytes()


def test_the_recipe_of_the_paper(data: Path, tmp_path: Path) -> None:
    made = workflow("training", TRAIN, PAPER, dataset_dir=data, output_dir=tmp_path)
    loss, optimizer, scheduler, trainer, loader, slices = (
        made.parser.get_parsed_content(name)
        for name in ("loss", "optimizer", "lr_scheduler", "train#trainer", "train#dataloader", "train#dataset")
    )
    assert type(loss) is torch.nn.BCEWithLogitsLoss
    assert loss(torch.zeros(1), torch.ones(1)) == pytest.approx(np.log(2))
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["weight_decay"] == 0
    for _ in range(20):
        assert optimizer.param_groups[0]["lr"] == 2e-4
        optimizer.step()
        scheduler.step()
    assert trainer.state.max_epochs == 150
    assert loader.batch_size == 16
    assert type(made.parser.get_parsed_content("network_def")).__name__ == "R2UNet"
    # No augmentation: a slice is drawn as it was loaded.
    for _ in range(3):
        assert_equal(slices[5]["image"], slices.volumes[1]["image"][..., 1])


def test_the_recipe_of_the_weights(data: Path, tmp_path: Path) -> None:
    """It draws by the weights of the data list, and validates and keeps the average, with statistics that stay."""
    datalist = json.loads((data / "datalist.json").read_text())
    for entry, weight in zip(datalist["training"], (0, 1), strict=True):
        entry["weight"] = weight
    (data / "datalist.json").write_text(json.dumps(datalist))
    first, out = write_random_weights(tmp_path / "w.pt"), tmp_path / "out"
    options = {"init_weights": first, "epochs": 1, "val_interval": 1, "slices_per_epoch": 8, "crop_size": 32}
    made = workflow("training", TRAIN, RECIPE, dataset_dir=data, output_dir=out, **options)
    loader, trainer = (made.parser.get_parsed_content(name) for name in ("train#dataloader", "train#trainer"))
    drawn = [batch for _ in range(3) for batch in loader]
    assert {name for batch in drawn for name in batch["case"]} == {"LCTSC_001.nii.gz"}
    assert {tuple(batch["image"].shape) for batch in drawn} == {(4, 1, 32, 32)}
    assert all(batch["image"].min() >= 0 and batch["image"].max() <= 1 for batch in drawn)
    made.run()
    assert trainer.state.iteration == 2
    kept, state, before = (
        torch.load(out / "model.pt", weights_only=True),
        checkpoint(out, 1),
        torch.load(first, weights_only=True),
    )
    assert_equal(kept, state["averaged"])
    name = "head.weight"
    steps = (state["model"][name] - before[name]).norm(), (kept[name] - before[name]).norm()
    assert 0 < steps[1] < 0.1 * steps[0]  # an average over some hundred steps
    statistics = [name for name in kept if name.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(kept[name], before[name]) for name in statistics)


# ---- the shipped weights ---------------------------------------------------------------------------------------------


def test_the_shipped_weights_segment_the_embedded_test_case() -> None:
    mask = Segmenter("lung", "cpu", batch_size=4)(LUNG / "sample/images/LCTSC_008.nii.gz")
    label = read_image(LUNG / "sample/labels/LCTSC_008.nii.gz")
    assert evaluate_case("", values(mask), values(label)).measures["dice"] >= 0.97
