"""What several processes train together is what one process trains with batches as large as all of theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from torch import nn

from monai_r2unet.errors import InputError, find_input_error
from monai_r2unet.networks import R2UNet
from monai_r2unet.training.distributed import agree, share, start
from tests.helpers import photograph_examples
from tests.helpers.bundle_runs import (
    QUIET,
    REPOSITORY,
    checkpoint,
    environment,
    file_of,
    history,
    in_checkout,
    workflow,
)
from tests.helpers.lung_examples import LUNG, SIZE, small_ct, write_dataset
from tests.training.distributed.jobs import TORCHRUN

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]

PHOTOGRAPHS = ["chase_db1", "drive", "skin", "stare"]
# Without what differs by design: augmentation, batch statistics, a loss over the batch, an optimiser that magnifies
# the rounding of gradients near 0.
EXACT: dict[str, Any] = {
    "slice_size": SIZE,
    "freeze_norm": True,
    "epochs": 3,
    "lr": 0.1,
    "optimizer#_target_": "torch.optim.SGD",
    "train#inferer#_target_": "SimpleInferer",
}
# A fine-tuning of the shipped weights by the bundle's own recipe, at a quarter of its size.
DICE: dict[str, Any] = {
    "slice_size": SIZE,
    "epochs": 4,
    "lr": 0.0005,
    "init_weights": str(LUNG / "models" / "model.pt"),
}
SMALL = {"skin": {"slice_size": 32, "patches": 4}}


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def test_two_processes_train_what_one_trains(data: Path, tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    train_in_two_processes(data, two)
    assert_that_the_weights_are_equal_where_nothing_depends_on_the_share(two / "exact", one / "exact", data)
    assert_that_the_lung_bundle_reaches_the_same_dice(two / "dice", one / "dice")
    for name in PHOTOGRAPHS:
        assert_that_a_bundle_of_photographs_was_trained(two, name)
    assert "the validation data have 1 slices for 2 processes" in (two / "few.txt").read_text()
    assert "patches is 1 for 2 processes" in (two / "patches.txt").read_text()
    assert not (two / "few").exists()


def train_in_two_processes(data: Path, out: Path) -> None:
    """One job for all trainings, each into a folder below ``out``."""
    out.mkdir()
    photographs = photograph_examples.write_dataset(out / "photographs")
    multi = "multi_gpu_train"
    jobs: list[Any] = [
        [
            ("lung", "train", "paper", multi),
            {**EXACT, "dataset_dir": data, "batch_size": 4, "output_dir": out / "exact"},
        ],
        [("lung", "train", multi), {**DICE, "batch_size": 4, "output_dir": out / "dice"}],
    ]
    for name in PHOTOGRAPHS:
        size = SMALL.get(name, {"patch_size": 16, "patches": 8})
        options = {"dataset_dir": photographs, "batch_size": 2, "epochs": 1, **size}
        jobs.append([(name, "train", multi), {**options, "output_dir": out / name}])
    few = write_dataset(out / "few_data")
    for kind in ("images", "labels"):
        sitk.WriteImage(small_ct("LCTSC_006", slices=1, kind=kind), str(few / kind / "LCTSC_006.nii.gz"))
    jobs.append([("lung", "train", multi), {"dataset_dir": few, "output_dir": out / "few"}, out / "few.txt"])
    options = {"dataset_dir": photographs, "output_dir": out / "few", "patch_size": 16, "patches": 1}
    jobs.append([("stare", "train", multi), options, out / "patches.txt"])
    written = [
        [
            [file_of(bundle, file) for file in files],
            {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
            str(refused[0]) if refused else None,
        ]
        for (bundle, *files), options, *refused in jobs
    ]
    script = str(Path(__file__).parent / "trainings.py")
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node", "2", script, json.dumps(written)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def assert_that_the_weights_are_equal_where_nothing_depends_on_the_share(two: Path, alone: Path, data: Path) -> None:
    files = [file_of("lung", "train"), file_of("lung", "paper")]
    workflow("training", *files, **{**EXACT, "batch_size": 8, "dataset_dir": data, "output_dir": alone}).run()
    one, other = checkpoint(alone, 3), checkpoint(two, 3)
    assert one["trainer"]["iteration"] == other["trainer"]["iteration"] == 3
    for name, value in one["model"].items():
        torch.testing.assert_close(other["model"][name], value, rtol=1e-4, atol=1e-6)
    start_again = alone / "start"
    made = workflow("training", *files, **{**EXACT, "batch_size": 8, "dataset_dir": data, "output_dir": start_again})
    first = made.parser.get_parsed_content("network").state_dict()
    moved = max(float((value - one["model"][name]).abs().max()) for name, value in first.items())
    assert moved > 0.01  # else there was nothing to compare
    losses = [[row["train_loss"] for row in history(folder)] for folder in (alone, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def assert_that_the_lung_bundle_reaches_the_same_dice(two: Path, alone: Path) -> None:
    """By its own recipe, on its own sample."""
    workflow("training", file_of("lung", "train"), **{**DICE, "batch_size": 8, "output_dir": alone}).run()
    one, other = (
        json.loads((folder / "results.json").read_text())["validation"]["val_dice"] for folder in (alone, two)
    )
    assert one > 0.9
    assert other == pytest.approx(one, abs=0.01)
    assert checkpoint(alone, 4)["trainer"]["iteration"] == checkpoint(two, 4)["trainer"]["iteration"]


def assert_that_a_bundle_of_photographs_was_trained(two: Path, name: str) -> None:
    R2UNet(in_channels=3).load_state_dict(torch.load(two / name / "model.pt", weights_only=True))
    (row,) = history(two / name)
    found = json.loads((two / name / "results.json").read_text())
    assert found["validation"]["val_dice"] == pytest.approx(row["val_dice"])
    assert checkpoint(two / name, 1)["trainer"]["iteration"] == {"skin": 1}.get(name, 2)


# ---- alone ----------------------------------------------------------------------------------------------------------


def test_what_is_for_several_processes_says_so_to_one(data: Path, tmp_path: Path) -> None:
    files = [file_of("lung", "train"), file_of("lung", "multi_gpu_train")]
    with pytest.raises(RuntimeError) as caught:
        workflow("training", *files, dataset_dir=data, output_dir=tmp_path / "out")
    assert "start them with torchrun" in str(find_input_error(caught.value))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("timeout", [0, -1, "60", True, None])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(InputError, match=r"^timeout is"):
        start("cpu", timeout)


def test_a_process_alone_agrees_with_itself() -> None:
    assert agree("a") == "a"
    assert agree("") == ""
    network = nn.Linear(2, 2)
    share(network)
    assert network.weight.shape == (2, 2)


@pytest.mark.parametrize("name", [*PHOTOGRAPHS, "lung"])
def test_several_processes_prepare_as_one_does(name: str) -> None:
    """Every line of a training's `initialize` is there for several processes too, in the same order."""
    one, several = (
        json.loads((REPOSITORY / file_of(name, file)).read_text())["initialize"]
        for file in ("train", "multi_gpu_train")
    )
    lines = iter(line.replace("@network.module", "@network") for line in several)
    assert all(line in lines for line in one)
