"""The lung bundle as a client of federated learning, by MONAI's own algorithm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

from monai_r2unet.networks import R2UNet
from tests.helpers.bundle_runs import QUIET, assert_equal, checkpoint, history, in_checkout
from tests.helpers.lung_examples import LUNG, SIZE, write_dataset

pytestmark = [
    *[pytest.mark.filterwarnings(warning) for warning in QUIET],
    pytest.mark.filterwarnings("ignore:executing the bundle config"),  # MONAI, of any configuration
]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def client(name: str, case: str, folder: Path) -> MonaiAlgo:
    """A hospital with one case to train on, all of whose files lie in ``folder``."""
    data = write_dataset(folder / "data")
    datalist = json.loads((data / "datalist.json").read_text())
    datalist["training"] = [entry for entry in datalist["training"] if case in entry["image"]]
    (data / "datalist.json").write_text(json.dumps(datalist))
    options = {
        "dataset_dir": str(data),
        "output_dir": str(folder / "out"),
        "slice_size": SIZE,
        "device": "cpu",
        "progress_bar": False,
    }
    made = MonaiAlgo(
        bundle_root=str(LUNG),
        local_epochs=1,
        send_weight_diff=False,
        train_kwargs={**options, "epochs": 2},  # over both rounds, for the learning rate
        eval_kwargs={**options, "ckpt_path": None},
        best_model_filepath=str(folder / "out" / "model.pt"),
    )
    made.initialize({ExtraItems.CLIENT_NAME: name})
    return made


def test_two_clients_train_for_two_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a federation's client runs anywhere
    cases = {"one": "LCTSC_000", "other": "LCTSC_001"}
    clients = {name: client(name, case, tmp_path / name) for name, case in cases.items()}
    torch.manual_seed(7)
    weights = {name: value.clone() for name, value in R2UNet().state_dict().items()}
    for number in (1, 2):
        sent = []
        for name, algorithm in clients.items():
            algorithm.train(ExchangeObject(weights=weights))
            returned = algorithm.get_weights()
            assert returned.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 1  # 4 slices in one batch
            sent.append(returned.weights)
            # What the training ended with, and not its best epoch.
            assert_equal(returned.weights, dict(checkpoint(tmp_path / name / "out", number)["model"]))
            assert [row["epoch"] for row in history(tmp_path / name / "out")] == list(range(1, number + 1))
        assert any(not torch.equal(value, sent[1][name]) for name, value in sent[0].items())  # each has its own data
        weights = {
            name: torch.stack([one[name].float() for one in sent]).mean(0).to(value.dtype)
            for name, value in weights.items()
        }
    measures = []
    for algorithm in clients.values():
        metrics = algorithm.evaluate(ExchangeObject(weights=weights)).metrics
        assert_equal(dict(algorithm.evaluator.network.state_dict()), weights)
        assert {"dice", "auc", "sensitivity"} < set(metrics)
        measures.append(metrics)
    assert measures[0] == measures[1]  # the same test case at both, by the same weights
    best = clients["one"].get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
    R2UNet().load_state_dict(best.weights)
    for algorithm in clients.values():
        algorithm.finalize()
