"""Run a bundle's workflows as MONAI does, from the root of the checkout, and read their output."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from monai_r2unet.networks.weights import latest

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).resolve().parents[1] / "data" / "meta_schema_20240725.json"

QUIET = [
    "ignore:NvImgCodecPydicomReader",  # what MONAI says of a decoder that is not used
    "ignore:'(min_delta|cumulative_delta)' is deprecated",  # in Ignite, by MONAI
    "ignore:No hash value provided",  # for the schema, which lies here
]


def file_of(bundle: str, name: str) -> str:
    """As users write it: ``bundles/drive/configs/evaluate.json``."""
    return f"bundles/{bundle}/configs/{name}.json"


def in_checkout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The body of a fixture: in the root of the checkout; what a run changes in this process is put back."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    set_determinism(None)


def at_its_own_size(config_files: tuple[str, ...], overrides: dict[str, Any]) -> dict[str, Any]:
    """Keep the reduced photographs of the tests at their own size, which the bundles of the retina would enlarge.

    As an expression, because MONAI's command line ignores a plain ``None``.
    """
    retina = any(name in file for file in config_files for name in ("drive", "stare", "chase_db1"))
    return {"fov_diameter": "$None", **overrides} if retina else overrides


def command(run: str, *config_files: str, **overrides: object) -> list[str]:
    overrides = at_its_own_size(config_files, overrides)
    files = config_files[0] if len(config_files) == 1 else str(list(config_files))
    options = [text for name, value in overrides.items() for text in (f"--{name}", str(value))]
    return ["-m", "monai.bundle", "run", run, "--config_file", files, *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def process(arguments: list[str], folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` in `folder`, as from a checkout that is not installed."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment())


def workflow(run: str, *config_files: str, **overrides: object) -> ConfigWorkflow:
    """The same as `process`, in this process and not yet run."""
    made = ConfigWorkflow(
        config_file=list(config_files),
        workflow_type="infer" if run == "inference" else "train",
        logging_file=False,
        run_id=run,
        **{
            name: str(value) if isinstance(value, Path) else value
            for name, value in {
                "device": "cpu",
                "progress_bar": False,
                **at_its_own_size(config_files, overrides),
            }.items()
        },
    )
    made.initialize()
    return made


def kill_training_after_two_epochs(arguments: list[str], out: Path) -> int:
    """Run what trains into ``out`` as a process, kill it after its second checkpoint, and tell the epoch it reached."""
    killed = subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300
        while not (out / "resume" / "checkpoint_epoch=2.pt").exists():
            assert killed.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    return int(Path(latest(out / "resume")).stem.partition("=")[2])


def config(*files: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(REPOSITORY / file) for file in files])
    parser.resolve_macro_and_relative_ids()
    return parser


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def checkpoint(folder: Path, epoch: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "resume" / f"checkpoint_epoch={epoch}.pt", weights_only=True)
    return content


def assert_equal(got: Any, expected: Any) -> None:
    """Compare nested states with tensors in them, bit for bit."""
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
