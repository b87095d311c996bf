"""Ignite handlers that show a training's progress, keep its checkpoints, and report its results."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping, ProgressBar
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointLoader, CheckpointSaver
from torch import nn

from monai_r2unet._borrowed import checkpoints_of, remember_best
from monai_r2unet.errors import InputError
from monai_r2unet.files import write_json, written_whole
from monai_r2unet.metrics.figures import best_median_worst, learning_curve, overlays
from monai_r2unet.metrics.tables import format_measures
from monai_r2unet.networks.weights import is_whole
from monai_r2unet.provenance import versions
from monai_r2unet.training.checks import check_example, example_of
from monai_r2unet.training.distributed import share
from monai_r2unet.training.examples import collect_slices
from monai_r2unet.training.resuming import check_fits, keep_earlier, set_aside
from monai_r2unet.training.trained_bundle import TrainedBundle

__all__ = ["AtomicCheckpointSaver", "TrainingProgress", "TrainingReport", "attach"]


class AtomicCheckpointSaver(CheckpointSaver):
    """MONAI's saver with atomic writes: a training may be killed at any time, and its disk may be full."""

    def __init__(self, *args: Any, key_metric_filename: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, key_metric_filename=key_metric_filename, **kwargs)
        folder = Path(self.save_dir)
        best, interval = checkpoints_of(self)
        if best is not None:
            best.save_handler = _WholeFiles(folder, key_metric_filename)
        if interval is not None:
            interval.save_handler = _WholeFiles(folder, None)


class _WholeFiles(BaseSaveHandler):
    """Write checkpoints into `folder`, under the name that Ignite gives them or always under `filename`."""

    def __init__(self, folder: Path, filename: str | None) -> None:
        self.folder = folder
        self.filename = filename

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / (self.filename or filename), ".tmp") as temporary:
            torch.save(checkpoint, temporary)

    def remove(self, filename: str) -> None:
        # Ignite removes the old file before it writes the new one; with a fixed name, the new file replaces the old
        # one.
        if self.filename is None:
            (self.folder / filename).unlink(missing_ok=True)


class TrainingProgress:
    """A progress bar with the loss for each epoch, and after each validation a line with its key metric.

    Args:
        validator: The validation engine whose key metric is shown.
        key_metric: The metric's name in ``validator.state.metrics``.
    """

    def __init__(self, validator: Engine, key_metric: str) -> None:
        self.validator = validator
        self.key_metric = key_metric
        self.last_epoch = 0
        # Silent without a terminal: a log file has the line of each epoch.
        self.bar = ProgressBar(desc="Epoch", persist=False, file=sys.stderr, disable=None)

    def attach(self, trainer: Engine) -> None:
        """Show the progress of ``trainer``."""
        self.bar.attach(trainer, output_transform=lambda output: {"loss": _loss(output)})
        # The validator's own handlers have computed the metric when its run completes.
        self.validator.add_event_handler(Events.COMPLETED, self._validated, trainer)

    def _validated(self, validator: Engine, trainer: Engine) -> None:
        value = validator.state.metrics.get(self.key_metric)
        # Once per epoch: the report at the end of the training validates again, and if all epochs were complete before
        # resuming, there is no loss.
        if value is not None and trainer.state.output is not None and trainer.state.epoch > self.last_epoch:
            self.last_epoch = trainer.state.epoch
            self.bar.log_message(
                f"Epoch {trainer.state.epoch}/{trainer.state.max_epochs}  "
                f"loss {_loss(trainer.state.output):.4f}  "
                f"{self.key_metric} {float(value):.4f}"
            )


class TrainingReport:
    """Keep the history of a training; at its end, write and print the best network's results on the validation set.

    Writes to ``output_dir``: ``history.csv`` (one row per epoch, continued after resuming), ``learning_curve.png``,
    ``overlays.png`` (best, median and worst validation slice with foreground in mask or reference), ``results.json``.

    Args:
        validator: Evaluates the network on single slices.
        network: The network; it receives the best weights for the report.
        output_dir: Folder of the results.
        best_weights: State dict of the best epoch, written earlier by a checkpoint handler.
        key_metric: Name in ``validator.state.metrics`` by which epochs are compared.
        describe: Facts to write into ``results.json`` beside the metrics (seed, schedule, ...).
        keep_history: Continue ``history.csv`` instead of starting a new one.
        best_saver: The writer of ``best_weights``; a resumed training passes it the best score so far.
        labels: Names of the labels, if there are several: each has its own curve and its own column of measures.
        bundle: Makes ``output_dir`` a bundle at the end.
    """

    def __init__(
        self,
        validator: Engine,
        network: nn.Module,
        output_dir: str,
        best_weights: str,
        key_metric: str,
        describe: Mapping[str, Any] | None = None,
        keep_history: bool = False,
        best_saver: CheckpointSaver | None = None,
        labels: Sequence[str] = (),
        bundle: TrainedBundle | None = None,
    ) -> None:
        self.bundle = bundle
        self.labels = tuple(labels) if len(labels) > 1 else ()
        self.validator = validator
        self.network = network
        self.output_dir = Path(output_dir)
        self.best_weights = Path(best_weights)
        self.key_metric = key_metric
        self.describe = dict(describe or {})
        self.history_file = self.output_dir / "history.csv"
        self.history: list[dict[str, float]] = []
        self.keep_history = keep_history
        self.best_saver = best_saver
        self._loss_sum = 0.0
        self._loss_count = 0
        self._validated = False

    def attach(self, trainer: Engine) -> None:
        """Report on ``trainer``; in distributed training in every process, but only the first one writes."""
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iterated)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        trainer.add_event_handler(Events.COMPLETED, self._completed)
        self.validator.add_event_handler(Events.COMPLETED, self._note_validation)

    def _note_validation(self, validator: Engine) -> None:
        self._validated = True

    def _started(self, trainer: Engine) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        if self.keep_history and not self.history and self.history_file.exists():
            with self.history_file.open(newline="", encoding="utf-8") as file:
                self.history = [
                    {key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)
                ]
        # A checkpoint may be older than the last row; a trainer that continues, as in federated learning, keeps all
        # rows.
        self.history = [row for row in self.history if row["epoch"] <= trainer.state.epoch]
        self._restore_best()

    def _restore_best(self) -> None:
        """Keep the weights of the best epoch so far: the first epoch after resuming may be worse."""
        validated = [row for row in self.history if self.key_metric in row]
        if not validated or not is_whole(self.best_weights):
            return
        best = max(validated, key=lambda row: row[self.key_metric])
        self.validator.state.best_metric = best[self.key_metric]
        self.validator.state.best_metric_epoch = int(best["epoch"])
        if self.best_saver is not None:
            remember_best(self.best_saver, best[self.key_metric], self.best_weights.name)

    def keep_earlier(self) -> None:
        """Keep weights and results of an earlier training in the same folder, which this one would replace."""
        names = (self.history_file.name, "results.json", "learning_curve.png", "overlays.png")
        kept = keep_earlier(self.best_weights, [self.output_dir / name for name in names])
        if kept is not None:
            print(f"The weights of an earlier training are kept in {kept}", file=sys.stderr)

    def _iterated(self, trainer: Engine) -> None:
        loss = _loss(trainer.state.output)
        if not math.isfinite(loss):
            raise InputError(
                f"the training diverged: its loss is {loss} in epoch {trainer.state.epoch}; lower lr, or check that "
                "no image holds NaN"
            )
        self._loss_sum += loss
        self._loss_count += 1

    def _epoch(self, trainer: Engine) -> None:
        loss = torch.as_tensor(idist.all_reduce(torch.tensor([self._loss_sum, self._loss_count], dtype=torch.float64)))
        row = {"epoch": float(trainer.state.epoch), "train_loss": float(loss[0] / loss[1].clamp_min(1))}
        self._loss_sum, self._loss_count = 0.0, 0
        if self._validated:
            row.update({name: float(value) for name, value in self.validator.state.metrics.items()})
        self._validated = False
        self.history.append(row)
        if idist.get_rank() != 0:
            return
        fields = list(dict.fromkeys(field for row in self.history for field in row))
        with (
            written_whole(self.history_file, ".tmp") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(self.history)

    def _completed(self, trainer: Engine) -> None:
        network = getattr(self.network, "module", self.network)
        # In federated learning the clients continue with the final weights.
        last_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if idist.get_rank() == 0 and self.best_weights.exists():
            network.load_state_dict(torch.load(self.best_weights, map_location="cpu", weights_only=True))
        share(network)  # the first process may be the only one whose host has the file
        slices: list[dict[str, Any]] = []
        collect = self.validator.add_event_handler(Events.ITERATION_COMPLETED, collect_slices, slices)
        best_before = self.validator.state.best_metric, self.validator.state.best_metric_epoch
        # Logged for the best epoch, whose measures are already in TensorBoard.
        self.validator.run(best_before[1] if best_before[1] > 0 else trainer.state.epoch)
        self.validator.state.best_metric, self.validator.state.best_metric_epoch = best_before
        collect.remove()
        network.load_state_dict(last_weights)
        if idist.get_rank() != 0:
            return
        metrics = {name: float(value) for name, value in self.validator.state.metrics.items()}
        learning_curve(self.history, self.key_metric, self.output_dir / "learning_curve.png", self.labels)
        overlays(best_median_worst(slices), self.output_dir / "overlays.png")
        results = {
            **self.describe,
            "epochs": trainer.state.epoch,
            "best_epoch": best_before[1],
            "validation": metrics,
            "versions": versions(),
        }
        if self.bundle is not None:
            self.bundle.write(self.output_dir, self.best_weights, network, results)
        write_json(results, self.output_dir / "results.json")  # last: it says that the training is complete
        title = f"Validation with the weights of the best epoch ({best_before[1]}), pooled over all pixels:"
        print(f"{title}\n{format_measures(self._columns(metrics))}\nFigures and results: {self.output_dir}")

    def _columns(self, metrics: dict[str, float]) -> dict[str, dict[str, float | None]]:
        """The columns of the table of measures: all, or the mean over labels and each label."""
        if not self.labels:
            return {"pooled": {**metrics}}
        own = {f"_{label}" for label in self.labels}
        mean = {name: value for name, value in metrics.items() if not any(name.endswith(end) for end in own)}
        each = {label: {name: metrics.get(f"{name}_{label}") for name in mean} for label in self.labels}
        return {"mean": {**mean}, **each}


def _loss(output: Any) -> float:
    """The loss in the state of MONAI's trainer: a list of decollated outputs, or one mapping."""
    first = output[0] if isinstance(output, list) else output
    return float(torch.as_tensor(first["loss"]).detach())


def attach(
    trainer: Engine,
    evaluator: Engine,
    *,
    early_stop: EarlyStopping,
    best_saver: CheckpointSaver,
    report: TrainingReport,
    resume_saver: CheckpointSaver,
    resume_loader: CheckpointLoader,
    resume_dir: str,
    resume_from: str,
    writes: bool,
) -> None:
    """Attach the handlers that stop, save, resume and report a training; the last step of a bundle's ``initialize``.

    Args:
        trainer: The training's engine.
        evaluator: The engine of its validation.
        early_stop: Ends the training when validation no longer improves.
        best_saver: Saves the weights of the best epoch.
        report: Reports the training.
        resume_saver: Saves a checkpoint after each epoch.
        resume_loader: Loads the checkpoint ``resume_from``.
        resume_dir: Folder of the checkpoints; those of an earlier training are set aside if this one starts anew, and
            so are its weights and results.
        resume_from: Checkpoint to resume from; empty for a new training.
        writes: Whether this process writes the files: the first of a job.

    Raises:
        InputError: all masks of the training are empty, or network and loss do not fit the data.
    """
    dataset: Any = getattr(trainer.state.dataloader or getattr(trainer, "data_loader", None), "dataset", None)
    if not getattr(dataset, "has_foreground", True):
        raise InputError(
            f"all {len(dataset.data)} masks of the training are empty, so there is nothing to learn: check what was "
            "exported"
        )
    drawn: Any = getattr(getattr(evaluator, "data_loader", None), "dataset", None)
    if drawn is not None and len(drawn):
        check_example(example_of(drawn), trainer.network, trainer.loss_function, trainer.state.device)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, early_stop)
    if writes:
        best_saver.attach(evaluator)
    if resume_from:
        check_fits(resume_from, trainer.network)
        resume_loader.attach(trainer)
    report.attach(trainer)
    if writes:
        if not resume_from:
            set_aside(resume_dir)
            report.keep_earlier()
        resume_saver.attach(trainer)
