"""A run through the bundle's own workflows, ``training`` and then ``evaluating``, as ``monai.bundle`` runs them.

It contains no training or test code: it selects configurations, replaces a few values, and measures times.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.engines.utils import IterationEvents

from monai_r2unet.apps.reproduce.study import BUDGET, OBSERVER, Study, StudyRun
from monai_r2unet.bundle import find_bundle
from monai_r2unet.datasets.datalist import load_datalist
from monai_r2unet.errors import InputError, as_switch
from monai_r2unet.files import write_json
from monai_r2unet.inference.segmenter import without_notices
from monai_r2unet.metrics.measures import CaseMeasures
from monai_r2unet.training.evaluation_report import EvaluationReport

__all__ = ["Test", "schedule_of", "segmented", "test", "train"]

RESULTS, SECONDS = "results.json", "seconds.json"


class Test(NamedTuple):
    """The result of a test: the bundle's ``evaluation.json``, the scored cases, parameters, seconds of the network.

    The cases are measured inside the field of view if the data have one, otherwise on complete images.
    """

    evaluation: dict[str, Any]
    cases: list[CaseMeasures]
    parameters: int
    seconds: float


def schedule_of(study: Study) -> dict[str, Any]:
    """The study's values for ``BUDGET``: its own, or those of its protocol.

    Raises:
        InputError: if the study sets a value that the bundle's training does not have.
    """
    known = _values(_config(study, "training"))
    for name in study.budget:
        if name not in known:
            raise InputError(
                f"{as_switch(name, True)} is given, but the training of {study.dataset} has none, only "
                f"{', '.join(as_switch(key, True) for key in known)}: leave it out"
            )
    config = _config(study, "training")
    config.update(dict(study.budget))
    return _values(config)


def train(study: Study, run: StudyRun, folder: Path, device: str) -> tuple[dict[str, Any], float]:
    """Train a network, or resume an interrupted training; does nothing if the training is complete.

    Args:
        study: The study of the run.
        run: Network, seed and data.
        folder: Folder for the weights (``model.pt``), checkpoints and the training report.
        device: Device name such as ``"cuda:0"``.

    Returns:
        The bundle's ``results.json``, and the seconds of all epochs including validation.
    """
    report = folder / RESULTS
    if not report.exists():
        overrides: dict[str, Any] = {
            **study.budget,
            "seed": run.seed,
            "resume": "auto",
            "patience": schedule_of(study)["epochs"] + 1,  # equal budgets: early stopping is off
        }
        if "patches" in study.budget and "validate#dataset#patches" in _config(study, "training"):
            # As in the paper: a tenth of all patches are for validation.
            overrides["validate#dataset#patches"] = max(1, study.budget["patches"] // 9)
        with _workflow(study, run, "training", folder, device, overrides) as workflow:
            _EpochSeconds(folder / SECONDS).attach(workflow.parser.get_parsed_content("train#trainer"))
            workflow.run()
            for engine in ("train", "validate"):
                for handler in workflow.parser.get_parsed_content(f"{engine}#handlers"):
                    if hasattr(handler, "close"):  # files and threads of TensorBoard's writers
                        handler.close()
    seconds = json.loads((folder / SECONDS).read_text())
    result: dict[str, Any] = json.loads(report.read_text())
    # A process that was killed between an epoch's checkpoint and its time has not recorded the time.
    return result, math.fsum(seconds.values()) * result["epochs"] / len(seconds)


def test(study: Study, run: StudyRun, folder: Path, device: str, threshold: float) -> Test:
    """Measure a trained network, or the second observer, on the test set, into ``folder/test/evaluation.json``."""
    overrides: dict[str, Any] = {"validate#handlers#0#threshold": threshold}
    if run.network == OBSERVER:
        entries = [{**entry, "image": entry["label_2"]} for entry in load_datalist(run.data, "test")]
        overrides |= {"validate#dataset#data": entries, "validate#inferer": _as_drawn, "initialize": []}
    with _workflow(study, run, "evaluating", folder, device, overrides) as workflow:
        stopwatch = _Stopwatch(torch.device(device))
        stopwatch.attach(workflow.parser.get_parsed_content("validate#evaluator"))
        workflow.run()
        report: EvaluationReport = workflow.parser.get_parsed_content("validate#handlers")[0]
        network = workflow.parser.get_parsed_content("network")
        parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        evaluation: dict[str, Any] = json.loads((report.output_dir / "evaluation.json").read_text())
        return Test(evaluation, report.cases_inside or report.cases, parameters, stopwatch.seconds)


def segmented(
    study: Study, run: StudyRun, folder: Path, device: str, entries: Sequence[Mapping[str, str]]
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Segment some entries of a data list with a trained network.

    Returns:
        For each entry, as read: image (C, X, Y[, Z]), probabilities (1, X, Y[, Z]), label and, if the bundle loads one,
        field of view of the same size.
    """
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]] = []

    def collect(evaluator: Engine) -> None:
        for item, drawn in zip(evaluator.state.output, evaluator.state.batch, strict=True):
            image, pred, label = (torch.as_tensor(item[key]).cpu() for key in ("image", "pred", "label"))
            fov = drawn.get("fov")
            found.append((image, pred, label, torch.as_tensor(fov).cpu() if isinstance(fov, torch.Tensor) else None))

    # Without postprocessing, which crops and reorients volumes, but not the image.
    overrides = {"validate#dataset#data": list(entries), "validate#handlers": [], "validate#postprocessing": None}
    with _workflow(study, run, "evaluating", folder, device, overrides) as workflow:
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, collect)
        workflow.run()
    return found


# ---- configurations --------------------------------------------------------------------------------------------------


def _files(study: Study, workflow: str) -> list[str]:
    # An evaluation replaces everything that the paper's recipe changes, except the size of slices.
    other = "evaluate" if workflow == "evaluating" else "paper" if study.protocol == "paper" else None
    configs = find_bundle(study.dataset).root / "configs"
    return [str(configs / f"{name}.json") for name in ("train", other) if name]


def _config(study: Study, workflow: str) -> ConfigParser:
    """The configuration of a workflow under the study's protocol, without its budget."""
    config = ConfigParser()
    config.read_config(_files(study, workflow))
    return config


def _values(config: ConfigParser) -> dict[str, Any]:
    values = {name: config.get_parsed_content(name) for name in BUDGET if name in config}
    if values.get("patch_size") == values.get("slice_size"):
        values.pop("patch_size", None)  # complete images
    return {name: value for name, value in values.items() if value is not None}


@contextlib.contextmanager
def _workflow(
    study: Study, run: StudyRun, name: str, folder: Path, device: str, overrides: Mapping[str, Any]
) -> Iterator[ConfigWorkflow]:
    """An initialised workflow of the bundle; its changes to this process and its device memory are undone."""
    observer = run.network == OBSERVER
    values: dict[str, Any] = {
        "bundle_root": str(find_bundle(study.dataset).root),
        "dataset_dir": str(run.data),
        "output_dir": str(folder if name == "training" else folder / "test"),
        "ckpt_path": str(folder / "model.pt"),
        "device": device,
        "progress_bar": False,
        "recurrences": study.recurrences,
        **({} if observer else {"network_name": run.network}),
        **{key: value for key, value in schedule_of(study).items() if key == "slice_size"},
        # A single pass, like the validation that determines the threshold; bundles for CT have no other.
        **({"mirror": False} if "mirror" in _config(study, name) else {}),
        **overrides,
    }
    logger = logging.getLogger("monai.bundle.workflows")
    hook, path, level = sys.excepthook, list(sys.path), logger.level
    logger.setLevel(logging.ERROR)  # it warns that logging is left unchanged
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Its printed output; with several processes, each reports its own runs.
        with (
            (folder / "log.txt").open("a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            without_notices(),
        ):
            kind = "train" if name == "training" else "eval"
            workflow = ConfigWorkflow(
                _files(study, name), logging_file=False, workflow_type=kind, run_id=name, **values
            )
            workflow.initialize()
            yield workflow
    finally:
        sys.excepthook, sys.path[:] = hook, path
        logger.setLevel(level)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _as_drawn(inputs: torch.Tensor, network: object) -> torch.Tensor:
    """Replaces the inferer: the second observer's mask is both the image and the prediction."""
    return (inputs > 0).float()


# ---- times -----------------------------------------------------------------------------------------------------------


class _EpochSeconds:
    """Keeps the seconds of every epoch, including validation, in a file that survives an interruption."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        self.started = 0.0

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.STARTED, self._read)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._stop)

    def _read(self, trainer: Engine) -> None:
        if self.path.exists():
            known: dict[str, float] = json.loads(self.path.read_text())
            # The checkpoint may be older than the last entry.
            self.seconds = {epoch: value for epoch, value in known.items() if int(epoch) <= trainer.state.epoch}

    def _start(self, trainer: Engine) -> None:
        self.started = time.perf_counter()

    def _stop(self, trainer: Engine) -> None:
        self.seconds[str(trainer.state.epoch)] = time.perf_counter() - self.started
        write_json(self.seconds, self.path)


class _Stopwatch:
    """Seconds from image to probabilities, summed over an evaluation, without reading and measuring."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.started = 0.0

    def attach(self, evaluator: Engine) -> None:
        evaluator.add_event_handler(Events.ITERATION_STARTED, self._start)
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._stop)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _start(self, evaluator: Engine) -> None:
        self.started = self._now()

    def _stop(self, evaluator: Engine) -> None:
        self.seconds += self._now() - self.started
