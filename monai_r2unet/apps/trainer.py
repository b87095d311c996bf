"""Plan a bundle for a data set and train it, in one process that reports what it does.

``python -m monai_r2unet.apps.trainer SOURCE BUNDLE [--labels NAMES] [--epochs N] [--device NAME]`` does the work of
``monai-r2unet new`` and of ``python -m monai.bundle run training``; the trained bundle is ``BUNDLE/eval``. Events are
written to standard output in the form of the worker's (`monai_r2unet.apps.worker.protocol`)::

    checked   done, total                   images and masks that were read
    planned   epochs, plan                  plan: the rows of the plan, each what, decision and reason
    progress  done, total                   iterations
    epoch     epoch, epochs, loss, dice     dice: validation Dice, null without a validation
    done      bundle, dice                  folder of the trained bundle, and the Dice of its best epoch
    error     code, message                 ``input`` (the user can correct it) or ``internal``

The process exits when its standard input closes, which also happens when its parent dies. Unless the training was done,
it leaves nothing of BUNDLE.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from monai_r2unet.apps.worker.protocol import event_line
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, find_input_error, sentence_of
from monai_r2unet.inference.startup import open_standard_streams

__all__ = ["Trainer", "main"]

HEX = "[0-9a-f]" * 8  # end of temporary names, see `monai_r2unet.files`
NEEDED = ("matplotlib", "tensorboard")  # of the extra `train`


class Trainer:
    """Plans and trains one bundle.

    Args:
        dest: The bundle's folder.
        events: Unbuffered file for the events.
    """

    def __init__(self, dest: Path, events: BinaryIO) -> None:
        self.dest = dest
        self.events = events
        self.begun = False  # from then on, what is in `dest` is ours
        self.done = False
        self.ending = threading.Lock()  # the training ends once: it is done, or it is removed

    def send(self, event: str, **content: Any) -> None:
        """Send an event; if the parent has gone, exit and, unless the training is done, remove the bundle."""
        try:
            self.events.write(event_line(event, content))
        except OSError:
            self.leave(1)

    def leave(self, code: int) -> NoReturn:
        """Exit; unless the training is done, remove the bundle."""
        with self.ending:
            if self.begun and not self.done:
                self._remove()
            sys.stderr.flush()
            os._exit(code)

    def _remove(self) -> None:
        """Remove the bundle, finished or being written."""
        for _ in range(10):  # another thread may be adding a file at this moment
            for folder in (self.dest, *self.dest.parent.glob(f".{self.dest.name}.{HEX}")):
                shutil.rmtree(folder, ignore_errors=True)
            if not self.dest.exists():
                break

    def leave_with_input(self) -> None:
        """Exit when standard input closes; runs in its own thread."""
        while os.read(0, 4096):
            pass
        self.leave(0 if self.done else 1)

    def work(self, options: argparse.Namespace) -> None:
        """Plan, train, and send the events of both.

        Raises:
            InputError: the data set cannot be learned from, or the training cannot begin.
        """
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f'training needs {" and ".join(missing)}, which this Python lacks: pip install "monai-r2unet[train]"'
            )
        from monai_r2unet.apps.planning.plan import make_plan
        from monai_r2unet.apps.planning.sources import find_cases
        from monai_r2unet.apps.planning.survey import survey
        from monai_r2unet.apps.planning.writer import check_destination, write_bundle

        check_destination(self.dest, overwrite=False)
        self.begun = True
        labels = [name.strip() for name in options.labels.split(",")] if options.labels else []
        found = survey(
            find_cases(Path(options.source)),
            labels,
            progress=lambda done, total: self.send("checked", done=done, total=total),
        )
        plan = make_plan(found)
        write_bundle(plan, self.dest)
        epochs = options.epochs or plan.epochs
        rows = [
            ("epochs", str(epochs), "given") if options.epochs and row[0] == "epochs" else row for row in plan.reasons
        ]
        self.send("planned", epochs=epochs, plan=rows)
        self._train(epochs, {} if options.device == "auto" else {"device": options.device})

    def _train(self, epochs: int, overrides: dict[str, Any]) -> None:
        from ignite.engine import Engine, Events
        from monai.bundle import ConfigWorkflow

        interval = {"val_interval": max(1, epochs // 20)}
        workflow = ConfigWorkflow(
            config_file=str(self.dest / "configs" / "train.json"),
            workflow_type="train",
            epochs=epochs,
            progress_bar=False,
            **interval,
            **overrides,
        )
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        report = workflow.parser.get_parsed_content("report")

        def iterated(engine: Engine) -> None:
            self.send("progress", done=engine.state.iteration, total=epochs * (engine.state.epoch_length or 1))

        def epoch_completed(engine: Engine) -> None:
            row = report.history[-1]  # written by a handler that was attached before
            dice = row.get(report.key_metric)
            self.send("epoch", epoch=engine.state.epoch, epochs=epochs, loss=row["train_loss"], dice=dice)

        trainer.add_event_handler(Events.ITERATION_COMPLETED, iterated)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, epoch_completed)
        workflow.run()
        workflow.finalize()
        with self.ending:
            self.done = True
        self.send("done", bundle=str(self.dest / "eval"), dice=float(report.validator.state.best_metric))


def main() -> NoReturn:
    """Work, then exit."""
    parser = argparse.ArgumentParser(prog="monai_r2unet.apps.trainer", description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", help="the data set, in a form that monai-r2unet new reads")
    parser.add_argument("bundle", help="folder of the bundle to write; it must not exist")
    parser.add_argument("--labels", default="", help="names of the labels, if the data set has none")
    parser.add_argument("--epochs", type=int, default=0, help="default: as planned")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    open_standard_streams()
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # anything printed goes to standard error
    sys.stdout = sys.stderr
    trainer = Trainer(Path(options.bundle).absolute(), events)
    threading.Thread(target=trainer.leave_with_input, daemon=True).start()
    code = 0
    try:
        trainer.work(options)
    except Exception as error:
        known = find_input_error(error) is not None
        if not known:
            traceback.print_exc()
        code = EXIT_BAD_INPUT if known else 1
        trainer.send("error", code="input" if known else "internal", message=sentence_of(error))
    trainer.leave(code)


if __name__ == "__main__":
    main()
