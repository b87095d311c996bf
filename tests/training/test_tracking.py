"""What a training shows while it runs: TensorBoard and MLflow, each read back by its own reader."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_r2unet.images.agreement import AGREEMENT
from tests.helpers import photograph_examples
from tests.helpers.bundle_runs import QUIET, file_of, history, in_checkout, workflow
from tests.helpers.lung_examples import SIZE, write_dataset, write_random_weights

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]

TRAIN = file_of("lung", "train")


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: 8 slices for training, 4 for validation, 4 for test, of 64 x 64 pixels."""
    return write_dataset(tmp_path / "data")


def events(folder: Path) -> EventAccumulator:
    read = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    read.Reload()
    return read


def pictures(read: EventAccumulator, tag: str) -> dict[int, np.ndarray]:
    """Epoch -> the picture of this tag, (rows, columns, RGB)."""
    return {
        one.step: np.asarray(Image.open(io.BytesIO(one.encoded_image_string)).convert("RGB"))
        for one in read.Images(tag)
    }


def test_tensorboard_shows_the_same_slices_of_every_validation(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # Of these weights half of each slice is lung, so that every step of the training shows.
    options = {"slice_size": SIZE, "epochs": 2, "lr": 0.002, "init_weights": write_random_weights(tmp_path / "w.pt")}
    made = workflow("training", TRAIN, dataset_dir=data, output_dir=out, **options)
    made.run()
    read = events(out)
    tags = [f"validation/LCTSC_006.nii.gz, slice {number}" for number in (0, 2, 3)]
    assert sorted(read.Tags()["images"]) == tags
    validation = made.parser.get_parsed_content("validate#dataset")
    slices = {f"validation/{one['case']}, slice {one['slice']}": one for one in validation}
    changed = 0
    for tag in tags:
        shown = pictures(read, tag)
        assert set(shown) == {1, 2}
        image, label = (np.asarray(slices[tag][key])[0].T for key in ("image", "label"))
        for picture in shown.values():
            assert picture.shape == (SIZE, 2 * SIZE, 3)
            plain, painted = np.split(picture, 2, axis=1)
            np.testing.assert_allclose(plain, np.repeat(image[..., None] * 255, 3, axis=-1), atol=1)
            # Half of the colour of an agreement or a miss is there wherever the label is.
            hit, miss = (
                np.abs(painted - (0.5 * plain + 0.5 * np.asarray(AGREEMENT[name]))).max(-1) <= 1
                for name in ("true positive", "false negative")
            )
            np.testing.assert_array_equal((hit | miss)[label > 0], True)
        changed += not np.array_equal(shown[1], shown[2])
    assert changed
    # The report at the end adds no points of its own to the curves.
    for row in history(out):
        (value,) = {one.value for one in read.Scalars("val_dice") if one.step == row["epoch"]}
        assert value == pytest.approx(row["val_dice"], abs=1e-6)


def test_tensorboard_shows_photographs_and_no_patches(tmp_path: Path) -> None:
    data = photograph_examples.write_dataset(tmp_path / "data")
    options = {"dataset_dir": data, "epochs": 1, "patches": 4, "batch_size": 2, "patch_size": 16}
    workflow("training", file_of("chase_db1", "train"), output_dir=tmp_path / "whole", **options).run()
    read = events(tmp_path / "whole")
    assert read.Tags()["images"] == ["validation/Image_10L.png"]
    (picture,) = pictures(read, "validation/Image_10L.png").values()
    assert picture.shape == (120, 250, 3)
    files = [file_of("chase_db1", "train"), file_of("chase_db1", "paper")]
    more = {"validate#dataset#patches": 32, "output_dir": tmp_path / "patches"}
    workflow("training", *files, **{**options, **more}).run()
    assert events(tmp_path / "patches").Tags()["images"] == []


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server that runs for the test."""
    pytest.importorskip("mlflow", reason='no MLflow server without MLflow: pip install "monai-r2unet[mlflow]"')
    address = f"http://127.0.0.1:{(port := free_port())}"
    places = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "a")]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
                *places,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health") as answer:
                if answer.status == 200:
                    break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)  # with its workers
        process.wait()


def test_a_training_is_tracked_by_an_mlflow_server(server: str, data: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    out = tmp_path / "out"
    named = {"tracking": "mlflow", "tracking_uri": server, "experiment_name": "lung", "run_name": "first"}
    workflow("training", TRAIN, dataset_dir=data, output_dir=out, slice_size=SIZE, epochs=2, **named).run()
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("lung")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    values = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "val_dice")}
    assert values == pytest.approx({int(row["epoch"]): row["val_dice"] for row in history(out)})
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) >= 4
    assert not (out / "mlruns.db").exists()
