"""A process that keeps a bundle loaded and segments on request: what 3D Slicer and the viewer talk to.

``python -m monai_r2unet.worker`` reads one JSON object a line from standard input::

    {"cmd": "run", "job": 7, "bundle": "lung", "input": "ct.nrrd", "output": "lung.seg.nrrd", "device": "auto",
     "slices": [100], "weights": "own.pt", "batch_size": 4, "overwrite": true}
    {"cmd": "cancel"}    every run that was asked for before
    {"cmd": "quit"}      the same, and leave

Of a run only ``bundle``, ``input`` and ``output`` are required; the output's ending names its format. ``job`` is
whatever the caller wants back in the events. ``slices`` are indices along that axis of the stored image along which its
axial slices are stacked: only these are segmented, and all others are 0 in the output, which has the whole image's
grid. A run waits for those before it.

Events leave on standard output, one a line, prefixed with ``@@`` so that nothing printed by others can pass for one::

    ready      version, protocol, devices, bundles     once, before anything else
    log        job, level (info, warning), message
    progress   job, done, total                        slices
    done       job, output, voxels, millilitres, warnings, seconds
    cancelled  job                                     nothing was written
    error      job, code, message                      nothing was written; the message is one sentence

Each run ends with exactly one of the last three. Codes: ``protocol`` (not a valid command), ``input`` (what the user
can put right), ``memory``, ``output`` (the disk is full or failed), ``internal`` (details are on standard error).

The process leaves when its standard input closes, hence also when its parent dies, at the latest after three seconds
(before ``ready``: once its imports are done).
"""

from __future__ import annotations

import math
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import SimpleITK as sitk
import torch

from monai_r2unet import __version__
from monai_r2unet.bundle import list_bundles
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, find_input_error
from monai_r2unet.io import read_image
from monai_r2unet.outputs import check_mask_output, write_mask
from monai_r2unet.protocol import PROTOCOL, Run, event_line, lines, read_command, run_of
from monai_r2unet.segmenter import Segmenter
from monai_r2unet.slices import put_slices, take_slices

__all__ = ["Worker", "main"]

GRACE = 2.0  # seconds that a batch or a file under way gets to end after standard input has closed


class Cancelled(Exception):
    """The caller no longer wants this run."""


class OutputError(Exception):
    """The mask could not be written."""


class Worker:
    """Reads commands in a thread, so that they can cancel the run that goes on meanwhile, and answers with events.

    Args:
        commands: file descriptor to read from.
        events: unbuffered file to write to.
    """

    def __init__(self, commands: int, events: BinaryIO) -> None:
        self.commands = commands
        self.events = events
        self.sending = threading.Lock()
        # Runs are numbered as they come; those up to a number are cancelled.
        self.runs: queue.Queue[tuple[int, Run] | None] = queue.Queue()
        self.newest = 0
        self.cancelled: float = 0
        self.current = 0
        self.workspace: str | None = None  # folder with the output that is being written
        self.loaded: tuple[Any, Segmenter] | None = None

    def serve(self) -> None:
        """Answer commands until told to quit or until no more can come."""
        self.send("ready", version=__version__, protocol=PROTOCOL, devices=_devices(), bundles=_bundles())
        threading.Thread(target=self._listen, daemon=True).start()
        while (numbered := self.runs.get()) is not None:
            self.current, run = numbered
            self._answer(run)

    def send(self, event: str, **content: Any) -> None:
        """Send an event; that nobody listens any more is no error, but there is nobody left to work for."""
        line = memoryview(event_line(event, content))
        with self.sending:
            try:
                while line:
                    line = line[self.events.write(line) :]
            except OSError:
                self.cancelled = math.inf

    # ---- the thread that listens ----

    def _listen(self) -> None:
        try:
            for line in lines(self.commands):
                if not self._take(line):
                    break
        finally:
            self.cancelled = math.inf
            self.runs.put(None)
            # Mostly the process has ended before this sleep has; if not, something holds it up that nobody waits for.
            time.sleep(GRACE)
            if self.workspace is not None:
                shutil.rmtree(self.workspace, ignore_errors=True)
            os._exit(0)

    def _take(self, line: bytes) -> bool:
        """Take a command; returns whether to go on listening."""
        job = None
        try:
            command = read_command(line)
            job = command.get("job")
            if command["cmd"] == "run":
                run = run_of(command)
                self.newest += 1
                self.runs.put((self.newest, run))
            elif command["cmd"] == "cancel":
                self.cancelled = self.newest
            return bool(command["cmd"] != "quit")
        except InputError as error:
            self.send("error", job=job, code="protocol", message=str(error))
            return True

    # ---- the thread that works ----

    def _answer(self, run: Run) -> None:
        try:
            done = self._segment(run)
        except Cancelled:
            self.send("cancelled", job=run.job)
        except Exception as error:
            code, message = _explain(error, run)
            if code == "internal":
                traceback.print_exc(file=sys.stderr)
            if code in ("internal", "memory"):
                self.loaded = None  # in whatever state it is
            self.send("error", job=run.job, code=code, message=message)
        else:
            self.send("done", job=run.job, **done)

    def _segment(self, run: Run) -> dict[str, Any]:
        told: list[str] = []

        def warn(sentence: str) -> None:
            told.append(sentence)
            self.send("log", job=run.job, level="warning", message=sentence)

        def progress(done: int, total: int) -> None:
            self.send("progress", job=run.job, done=done, total=total)
            self._stop_if_cancelled()

        started = time.perf_counter()
        self._stop_if_cancelled()
        check_mask_output(run.output, run.input, overwrite=run.overwrite)
        if Path(run.output).resolve() == Path(run.input).resolve():
            raise InputError(f"{run.output} is input and output at once: give the mask a name of its own")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            image = read_image(run.input)
        for warning in caught:
            if warning.category is UserWarning:  # ours; other libraries' notices are not for the user
                warn(str(warning.message))
        part = image if run.slices is None else take_slices(image, run.slices)
        read = time.perf_counter()
        self._stop_if_cancelled()
        segmenter = self._segmenter(run)
        loaded = time.perf_counter()
        self._stop_if_cancelled()
        result = segmenter.run(part, on_progress=progress)
        for sentence in result.warnings:
            warn(sentence)
        mask = result.mask if run.slices is None else put_slices(result.mask, run.slices, image)
        segmented = time.perf_counter()
        self._write(run, mask, segmenter)
        seconds = {"read": read - started, "load": loaded - read, **result.seconds}
        return {
            "output": run.output,
            "voxels": result.voxels,
            "millilitres": result.millilitres,
            "warnings": told,
            "seconds": {**seconds, "write": time.perf_counter() - segmented},
        }

    def _segmenter(self, run: Run) -> Segmenter:
        """The one that is loaded, if it is the one asked for."""
        own = None if run.weights is None else Path(run.weights)
        changed = own.stat().st_mtime_ns if own is not None and own.is_file() else None
        key = (run.bundle, run.device, own, changed, run.batch_size)
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = None  # two at once may not fit into memory
            segmenter = Segmenter(run.bundle, run.device, own, run.batch_size)
            self.loaded = (key, segmenter)
            self.send("log", job=run.job, level="info", message=f"loaded {run.bundle} on {segmenter.device}")
        return self.loaded[1]

    def _write(self, run: Run, mask: sitk.Image, segmenter: Segmenter) -> None:
        """Write beside the output, which takes its place unless the run was cancelled meanwhile."""
        output = Path(run.output)
        self._stop_if_cancelled()
        try:
            with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
                self.workspace = folder
                written = Path(folder) / output.name
                write_mask(mask, written, bundle=segmenter.bundle, source=run.input)
                self._stop_if_cancelled()
                check_mask_output(output, run.input, overwrite=run.overwrite)
                written.replace(output)
        except (OSError, RuntimeError) as error:  # ITK's are RuntimeErrors
            raise OutputError(f"{output} could not be written: is the disk full, or the folder gone?") from error
        finally:
            self.workspace = None

    def _stop_if_cancelled(self) -> None:
        if self.current <= self.cancelled:
            raise Cancelled


def _explain(error: Exception, run: Run) -> tuple[str, str]:
    """The code and the sentence for an error."""
    bad_input = find_input_error(error)
    if isinstance(error, OutputError):
        return "output", str(error)
    if bad_input is not None:
        return "input", str(bad_input)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory", f"not enough memory for {run.input} on {run.device}: close other programs or choose the CPU"
    return "internal", f"unexpected {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _devices() -> list[dict[str, str]]:
    count = torch.cuda.device_count()
    cuda = [{"id": f"cuda:{index}", "name": torch.cuda.get_device_name(index)} for index in range(count)]
    return [*cuda, {"id": "cpu", "name": "CPU"}]


def _bundles() -> list[dict[str, Any]]:
    texts = ("version", "task", "description", "intended_use", "limits", "data_source")
    return [
        {
            "name": bundle.name,
            "title": bundle.metadata.get("name", bundle.name),
            **{key: bundle.metadata.get(key, "") for key in texts},
            "modality": bundle.image_format.get("modality", ""),
            "labels": bundle.labels,
            "weights": bundle.weights_state(),
            "licence": bundle.metadata.get("weights", {}).get("licence", ""),
        }
        for bundle in list_bundles()
    ]


def main() -> NoReturn:
    """Serve on this process' standard input and output, and leave."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever anyone prints, in C too, goes to standard error
    sys.stdout = sys.stderr
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an exit like any other, which cleans up
    code = 0
    try:
        Worker(0, events).serve()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        code = 130
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    # Without the interpreter's farewell, which takes seconds after torch and MONAI were imported.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
