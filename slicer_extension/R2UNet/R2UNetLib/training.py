"""Training a bundle: a data set in a folder, and a process of the worker's Python that plans, trains and reports."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from .problem import Problem
from .processes import LineProcess
from .pythons import chosen_python
from .training_data import Case, check_cases, write_data_set
from .worker_client import FAREWELL, MARK

HEX = "[0-9a-f]" * 8  # end of the names of unfinished folders


@dataclass(frozen=True)
class Epoch:
    """What was measured in an epoch; `dice`, that of the validation, is None in an epoch without one."""

    number: int
    loss: float
    dice: float | None


@dataclass
class Training:
    """A training, and what its process has reported.

    Args:
        bundle: Folder of the bundle, which is created.
        data: Folder of the data set.
        own_data: The data set was written for this training.
    """

    bundle: Path
    data: Path
    own_data: bool
    started: float = field(default_factory=time.monotonic)
    first_progress: tuple[float, float] | None = None  # time and finished share at the first iteration
    checked: tuple[int, int] = (0, 0)  # images that were read, and all
    share: float = 0.0  # finished share of the iterations
    plan: list[list[str]] = field(default_factory=list)  # rows of what, decision and reason
    planned_epochs: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    trained: str = ""  # folder of the trained bundle
    problem: str = ""
    cancelled: bool = False

    @property
    def remaining(self) -> float | None:
        """Estimated seconds left; None before the second iteration."""
        if self.first_progress is None:
            return None
        then, share = self.first_progress
        now = time.monotonic()
        return None if self.share <= share else (now - then) / (self.share - share) * (1 - self.share)

    def take(self, event: dict[str, Any]) -> None:
        """Take a report of the process."""
        kind = event["event"]
        if kind == "checked":
            self.checked = (event["done"], event["total"])
        elif kind == "planned":
            self.plan, self.planned_epochs = event["plan"], event["epochs"]
        elif kind == "progress":
            self.share = event["done"] / event["total"]
            if self.first_progress is None:
                self.first_progress = (time.monotonic(), self.share)
        elif kind == "epoch":
            self.epochs.append(Epoch(event["epoch"], event["loss"], event["dice"]))
        elif kind == "done":
            self.trained = event["bundle"]
        elif kind == "error":
            self.problem = event["message"]

    def clean_up(self) -> None:
        """Remove everything that was created, unless the training is done."""
        if self.trained:
            return
        unfinished = self.bundle.parent.glob(f".{self.bundle.name}.{HEX}")  # of a process that was killed
        for folder in (self.bundle, *unfinished, *([self.data] if self.own_data else [])):
            shutil.rmtree(folder, ignore_errors=True)


class TrainingListener(Protocol):
    """Receiver of notifications, such as the panel."""

    def onText(self, line: str) -> None:
        """There is a new line for the log."""

    def onTrainingProgress(self, training: Training) -> None:
        """There is something new about the running training."""

    def onTrainingFinished(self, training: Training) -> None:
        """The training is done, cancelled or has failed."""


class TrainingRunner:
    """Runs one training at a time.

    Args:
        listener: Receiver of notifications; may be None, and may change.
    """

    def __init__(self, listener: TrainingListener | None) -> None:
        self.listener = listener
        self.training: Training | None = None
        self.last: Training | None = None
        self._process = LineProcess(self._on_output, self._log, self._on_end)
        self._last_text: deque[str] = deque(maxlen=20)

    def start(
        self,
        name: str,
        folder: Path,
        source: Path | Sequence[Case],
        *,
        labels: str = "",
        modality: str = "",
        epochs: int = 0,
        device: str = "auto",
    ) -> None:
        """Start a training; see `R2UNetLogic.train`.

        Raises:
            Problem: if it cannot start; nothing was created.
        """
        if self.training is not None:
            raise Problem(_("A training is still running: wait for it or cancel it."))
        python = chosen_python()
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise Problem(_("Give the bundle a name of letters, digits, dots, dashes and underscores."))
        if not folder.is_dir():
            raise Problem(_("Choose the folder in which the bundle is to be created."))
        own_data = not isinstance(source, Path)
        training = Training(folder / name, folder / f"{name}_data" if own_data else source, own_data)
        for new in (training.bundle, *([training.data] if own_data else [])):
            if new.exists():
                raise Problem(_("{folder} exists already: choose another name.").format(folder=new))
        if own_data:
            check_cases(source)
            try:
                write_data_set(source, training.data, modality)
            except Problem:
                training.clean_up()
                raise
        self.training, self.last = training, None
        self._last_text.clear()
        options = [*(["--labels", labels] if labels else []), "--epochs", str(epochs), "--device", device]
        arguments = ["-u", "-m", "monai_r2unet.apps.trainer", str(training.data), str(training.bundle), *options]
        self._process.start(python.program, arguments, python.environment)

    def cancel(self) -> None:
        """Stop the training; the listener is notified when everything it created has been removed."""
        if self.training is not None:
            self.training.cancelled = True
            self._process.kill()

    def close(self) -> None:
        """Stop everything, and wait at most a few seconds."""
        self.listener = None
        self.cancel()
        if not self._process.wait(FAREWELL) and self.training is not None:
            self.training.clean_up()

    def _on_output(self, line: str) -> None:
        training = self.training
        if not line.startswith(MARK):
            self._log(line)
        elif training is not None and not training.cancelled:
            training.take(json.loads(line[len(MARK) :]))
            if self.listener is not None:
                self.listener.onTrainingProgress(training)

    def _on_end(self, code: int | None) -> None:
        training, self.training = self.training, None
        if training is None:
            return
        if training.trained:
            training.cancelled = False  # too late
        elif not training.problem and not training.cancelled:
            missing = "No module named" in " ".join(self._last_text)
            training.problem = (
                _("The chosen Python lacks a package that R2U-Net needs: see the log, then 'Set up'.")
                if missing
                else _("The program that trains has ended unexpectedly: see the log.")
            )
        training.clean_up()
        self.last = training
        if self.listener is not None:
            self.listener.onTrainingFinished(training)

    def _log(self, line: str) -> None:
        self._last_text.append(line)
        if self.listener is not None:
            self.listener.onText(line)
