"""What users type after `python -m monai.bundle run`: what is named runs, in the named bundle, or one sentence."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from tests.helpers.bundle_runs import (
    QUIET,
    REPOSITORY,
    assert_equal,
    command,
    file_of,
    in_checkout,
    process,
    workflow,
)
from tests.helpers.lung_examples import LUNG, SIZE, write_dataset

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]
TRAIN, EVALUATE, INFERENCE = (file_of("lung", name) for name in ("train", "evaluate", "inference"))


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"dataset_dir": write_dataset(tmp_path / "data"), "output_dir": tmp_path / "out", "slice_size": SIZE}


def sentence(capsys: pytest.CaptureFixture[str], expected_code: int = 2) -> str:
    """What the user reads of the error that is being handled, where the interpreter would print a traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    assert left.value.code == expected_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def refusal(capsys: pytest.CaptureFixture[str], run: str, *files: str, **options: Any) -> str:
    try:
        made = workflow(run, *files, **options)
        made.run()
    except Exception:
        return sentence(capsys)
    raise AssertionError("it ran")


# ---- options that nothing knows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "files", "option", "near"),
    [
        ("training", [TRAIN], "dataset_dri", "dataset_dir"),
        ("training", [TRAIN], "max_epochs", "epochs"),
        ("training", [TRAIN], "train#trainr", "train#trainer"),
        ("training", [file_of("drive", "train")], "patch_sizes", "patch_size"),
        ("evaluating", [TRAIN, EVALUATE], "ckpt_pth", "ckpt_path"),
        ("inference", [INFERENCE], "output-dir", "output_dir"),
    ],
)
def test_a_misspelt_option_is_refused_with_its_neighbour(
    run: str, files: list[str], option: str, near: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capsys, run, *files, **options, **{option: 1})
    assert f"unknown option --{option}: " in told
    assert f"did you mean --{near}?" in told
    assert not (options["output_dir"] / "model.pt").exists()


def test_an_option_like_nothing_is_refused(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown option --zzz: nothing" in refusal(capsys, "training", TRAIN, **options, zzz="abc")


def test_what_a_configuration_of_the_user_s_own_adds_is_no_misspelt_option(
    options: dict[str, Any], tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"my_seed": 3, "seed": "@my_seed", "my_loss": {"_target_": "DiceLoss"}}))
    made = workflow("training", TRAIN, str(own), **options)
    assert made.parser.get_parsed_content("seed") == 3


# ---- values that cannot be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("lr", "abc", "lr is 'abc', expected a learning rate"),
        ("lr", -0.001, "lr is -0.001"),
        ("lr", float("nan"), "lr is nan"),
        ("patience", 0, "patience is 0, expected a whole number from 1"),
        ("slice_size", 0, "slice_size is 0, expected a whole number from 16"),
        ("slice_size", 8, "slice_size is 8, expected a whole number from 16"),
        ("slice_size", "64", "slice_size is '64'"),
        ("device", "gpu", "device 'gpu' cannot be used here"),
        ("network_name", "UNet", "network_name is 'UNet', expected one of AttentionR2UNet, ForwardUNet"),
        ("output_dir", "/proc/nothing", "output_dir /proc/nothing cannot be written to"),
        ("seed", "abc", "check the options"),
        ("num_workers", -1, "DataLoader in the configuration cannot be created (ValueError: num_workers"),
        ("recurrences", "two", "R2UNet in the configuration cannot be created"),
        ("min_extent", "wide", "cannot be created"),
        ("network_def#chanels", [3], "R2UNet in the configuration cannot be created (TypeError: "),
        ("init_weights", "none.pt", "weights not found: none.pt"),
        ("dataset_dir", "nowhere", "nowhere"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    option: str, value: Any, words: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capsys, "training", TRAIN, **{**options, option: value})
    assert words in told
    assert "Traceback" not in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_one_sentence(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert "device 'cuda:0' cannot be used here" in refusal(capsys, "training", TRAIN, **options, device="cuda:0")


def test_a_diverging_training_says_so(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(capsys, "training", TRAIN, **options, lr=1e30, epochs=2)
    assert "diverged" in told
    assert "lower lr" in told


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("out_channels", 2, "R2UNet and DiceCELoss do not fit images of 1 x 64 x 64 and masks of 1 x 64 x 64 ("),
        ("in_channels", 3, "R2UNet and DiceCELoss do not fit images of 1 x 64 x 64"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_before_an_earlier_training_is_moved(
    option: str, value: Any, words: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options["output_dir"].mkdir()
    (options["output_dir"] / "model.pt").write_bytes(b"earlier")
    told = refusal(capsys, "training", TRAIN, **options, epochs=1, **{f"network_def#{option}": value})
    assert words in told
    assert "check in_channels and out_channels of network_def, and the loss" in told
    assert (options["output_dir"] / "model.pt").read_bytes() == b"earlier"
    assert not (options["output_dir"] / "before_1").exists()


def test_trying_an_example_changes_nothing_of_a_training(options: dict[str, Any]) -> None:
    made = workflow("training", TRAIN, **options)
    network = made.parser.get_parsed_content("network")
    assert network.training
    assert all(
        int(norm.num_batches_tracked) == 0 for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm2d)
    )


def test_a_training_resumes_with_its_own_network_only(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    workflow("training", TRAIN, **options, epochs=1).run()
    told = refusal(capsys, "training", TRAIN, **options, epochs=2, resume=True, network_name="ResUNet")
    assert "is not one of ResUNet as configured now" in told
    for path in (options["output_dir"] / "resume").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert "no checkpoint to resume from" in refusal(capsys, "training", TRAIN, **options, epochs=2, resume=True)


def test_ctrl_c_is_one_word(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    workflow("training", TRAIN, **options)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert sentence(capsys, expected_code=130) == "interrupted\n"


def test_what_ctrl_c_ends_first_does_not_hide_it(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        workflow("training", TRAIN, **options)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    except RuntimeError:
        assert sentence(capsys, expected_code=130) == "interrupted\n"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fault_of_the_program_keeps_its_traceback(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_, **__: [][0])
    made = workflow("training", TRAIN, **options)
    try:
        made.run()
    except Exception:
        capsys.readouterr()
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    assert "IndexError" in capsys.readouterr().err


# ---- earlier results -------------------------------------------------------------------------------------------------


def test_a_second_training_keeps_the_weights_of_the_first(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = options["output_dir"]
    kept = []
    for number in range(3):
        workflow("training", TRAIN, **options, epochs=1, seed=number).run()
        kept.append({name: (out / name).read_bytes() for name in ("model.pt", "results.json", "history.csv")})
    assert f"kept in {out / 'before_2'}" in capsys.readouterr().err
    for folder, expected in ((out / "before_1", kept[0]), (out / "before_2", kept[1]), (out, kept[2])):
        assert {name: (folder / name).read_bytes() for name in expected} == expected
    workflow("training", TRAIN, **options, epochs=2, seed=2, resume=True).run()
    assert not (out / "before_3").exists()


# ---- which bundle ----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundle under another name, with a small sample."""
    root = tmp_path / "liver"
    shutil.copytree(LUNG, root, ignore=shutil.ignore_patterns("sample", "eval"))
    write_dataset(root / "sample")
    return root


@pytest.mark.parametrize("inside", [False, True])
def test_a_copied_bundle_reads_and_writes_its_own_folders(
    copy: Path, inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, prefix = (copy, "") if inside else (tmp_path, "liver/")
    monkeypatch.chdir(folder)
    own = str(Path(prefix or "."))
    for run, files in (
        ("training", ["train.json"]),
        ("training", ["configs/train.json"]),
        ("evaluating", ["configs/train.json", "configs/evaluate.json"]),
        ("inference", ["configs/inference.json"]),
    ):
        made = ConfigWorkflow(
            [prefix + file for file in files],
            logging_file=False,
            workflow_type="infer" if run == "inference" else "train",
            run_id=run,
            device="cpu",
            slice_size=SIZE,
        )
        made.initialize()
        for name, expected in (("bundle_root", own), ("dataset_dir", f"{own}/sample"), ("output_dir", f"{own}/eval")):
            assert made.parser.get_parsed_content(name) == expected, (run, name)


def test_a_copied_bundle_beside_its_original_leaves_that_alone(copy: Path) -> None:
    """As typed in the root of a checkout, where the original lies too."""
    before = sorted(path for path in LUNG.rglob("*"))
    done = process(command("training", str(copy / "train.json"), epochs=1, slice_size=16, device="cpu"), REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert (copy / "eval" / "model.pt").is_file()
    assert json.loads((copy / "eval" / "results.json").read_text())["dataset_dir"] == f"{copy}/sample"
    assert sorted(path for path in LUNG.rglob("*")) == before


def test_the_bundle_of_a_workflow_is_not_that_of_the_working_directory(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    made = ConfigWorkflow(str(LUNG / "configs/train.json"), logging_file=False, device="cpu", slice_size=SIZE)
    made.initialize()
    assert made.parser.get_parsed_content("bundle_root") == str(LUNG)
    assert_equal(made.parser.get_parsed_content("epochs"), 8)
