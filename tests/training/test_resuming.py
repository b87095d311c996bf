"""The checkpoint from which a training resumes, and options that are refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_r2unet.errors import InputError, find_input_error
from monai_r2unet.training.options import check_training_options
from monai_r2unet.training.resuming import checkpoint_to_resume, set_aside
from tests.helpers.bundle_runs import QUIET, checkpoint, file_of, history, in_checkout, workflow
from tests.helpers.lung_examples import SIZE, write_dataset

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the checkpoint of 3 epochs of 5 batches."""
    (tmp_path / "resume").mkdir()
    torch.save({"trainer": {"iteration": 15, "epoch_length": 5}}, tmp_path / "resume" / "checkpoint_epoch=3.pt")
    return tmp_path / "resume"


def test_when_a_training_is_resumed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = str(folder / "checkpoint_epoch=3.pt")
    nowhere = tmp_path / "none"
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    for restarts, resume, found, expected in (
        (0, False, folder, ""),
        (0, True, folder, there),
        (0, "auto", folder, there),
        (0, "auto", nowhere, ""),
        (1, False, folder, there),
        (1, False, nowhere, ""),
        (2, "auto", folder, there),
    ):
        if restarts:
            monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        assert checkpoint_to_resume(found, resume, 3, 5) == expected
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        checkpoint_to_resume(nowhere, True, 3, 5)


def test_what_cannot_be_gone_on_from_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^epochs is 2, but 3 epochs are done in .*; give 3 or more"):
        checkpoint_to_resume(folder, True, 2, 5)
    with pytest.raises(InputError, match="an epoch has 4 batches now, but 5 in "):
        checkpoint_to_resume(folder, True, 3, 4)


def test_checkpoints_are_set_aside_once(folder: Path) -> None:
    set_aside(folder)
    before = folder.with_name("resume_before")
    assert [path.name for path in before.iterdir()] == ["checkpoint_epoch=3.pt"]
    folder.mkdir()
    set_aside(folder)  # nothing in it: as when a workflow is initialised twice
    set_aside(folder.with_name("none"))
    assert [path.name for path in before.iterdir()] == ["checkpoint_epoch=3.pt"]


def test_a_training_that_was_done_is_only_reported_on(tmp_path: Path) -> None:
    """As when it was lost while it wrote its report. And a training from scratch takes nothing from the earlier one."""
    options = {"dataset_dir": write_dataset(tmp_path / "data"), "output_dir": tmp_path / "out", "slice_size": SIZE}
    training = file_of("lung", "train")
    workflow("training", training, epochs=2, **options).run()
    rows, state = history(tmp_path / "out"), checkpoint(tmp_path / "out", 2)
    (tmp_path / "out" / "results.json").unlink()
    again = workflow("training", training, epochs=2, resume="auto", **{**options, "progress_bar": True})
    again.run()
    assert history(tmp_path / "out") == rows
    assert (tmp_path / "out" / "results.json").exists()
    # The network is left as the training left it, whichever epoch was best.
    for name, value in again.parser.get_parsed_content("network").state_dict().items():
        torch.testing.assert_close(value, state["model"][name], rtol=0, atol=0)
    with pytest.raises(RuntimeError) as caught:
        workflow("training", training, epochs=1, resume=True, **options)
    assert "epochs is 1, but 2 epochs are done" in str(find_input_error(caught.value))

    workflow("training", training, epochs=1, **options).run()
    assert len(history(tmp_path / "out")) == 1
    assert sorted(path.name for path in (tmp_path / "out" / "resume").iterdir()) == ["checkpoint_epoch=1.pt"]
    assert (tmp_path / "out" / "resume_before" / "checkpoint_epoch=2.pt").exists()


GOOD: dict[str, Any] = {"epochs": 2, "batch_size": 4, "val_interval": 1, "resume": False, "freeze_norm": False}


@pytest.mark.parametrize("changes", [{}, {"resume": True}, {"resume": "auto"}, {"freeze_norm": True}])
def test_options_that_can_be_meant(changes: dict[str, Any]) -> None:
    check_training_options(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("freeze_norm", "false", "expected True or False"),
        ("freeze_norm", "auto", "expected True or False"),
        ("freeze_norm", 1, "expected True or False"),
        ("freeze_norm", None, "expected True or False"),
        ("resume", "true", "expected True or False or auto"),
        ("resume", "Auto", "expected True or False or auto"),
        ("epochs", 0, "expected a whole number from 1"),
        ("epochs", 2.5, "expected a whole number from 1"),
        ("epochs", True, "expected a whole number from 1"),
        ("batch_size", "four", "expected a whole number from 1"),
        ("val_interval", -1, "expected a whole number from 1"),
    ],
)
def test_options_that_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} is {value!r}, {expected}"):
        check_training_options(**{**GOOD, name: value})


@pytest.mark.parametrize("bundle", ["lung", "drive", "stare", "chase_db1", "skin"])
def test_every_bundle_checks_its_options_first(bundle: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow("training", file_of(bundle, "train"), dataset_dir=tmp_path, output_dir=tmp_path, freeze_norm="false")
    assert "freeze_norm is 'false'" in str(find_input_error(caught.value))
