"""The worker process of 3D Slicer and the viewer: it keeps a bundle loaded and segments on request.

`monai_r2unet.apps.worker.protocol` describes its input and output.

The process exits within three seconds after its standard input has closed, which also happens when its parent dies.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from monai_r2unet import __version__
from monai_r2unet.apps.worker.protocol import PROTOCOL, Answer, Request, event_line, lines, read_command, request_of
from monai_r2unet.apps.worker.run import Run
from monai_r2unet.bundle import Bundle, find_bundle, first_unsafe_part, is_shipped, list_bundles
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, sentence_of
from monai_r2unet.inference.startup import import_monai_for_segmentation, keep_freed_memory, open_standard_streams

if TYPE_CHECKING:
    from monai_r2unet.apps.worker.runner import Runner

__all__ = ["Worker", "main"]

GRACE = 2.0  # seconds for a regular exit after standard input has closed


class Worker:
    """Answers commands with events, in three threads: one listens, one works, and the main thread waits for either.

    Work inside a library, imports included, cannot be interrupted. To answer a cancellation at once, the worker does
    not wait for the cancelled work to end; it discards what that work still sends and keeps it from writing.

    Args:
        commands: File descriptor to read from.
        events: Unbuffered file to write to.
    """

    def __init__(self, commands: int, events: BinaryIO) -> None:
        self.commands = commands
        self.events = events
        self.sending = threading.Lock()
        self.working = ThreadPoolExecutor(max_workers=1)
        # Runs are numbered in order of arrival; a cancellation covers all up to a number.
        self.requests: queue.Queue[tuple[int, Request] | None] = queue.Queue()
        self.newest = 0
        self.cancelled: float = 0
        self.changed = threading.Condition()  # something was cancelled, or the work is done
        self.runner: Runner | None = None
        self.run: Run | None = None

    def serve(self) -> None:
        """Answer commands until `quit` arrives or the input closes."""
        bundles, damaged = [], []
        for bundle in list_bundles():
            try:
                bundles.append(_describe(bundle))
            except InputError as error:  # the other bundles work
                damaged.append(str(error))
        self.send("ready", version=__version__, protocol=PROTOCOL, bundles=bundles)
        for sentence in damaged:
            self.send("log", job=None, level="warning", message=sentence)
        threading.Thread(target=self._listen, daemon=True).start()
        self.working.submit(self._prepare)
        while (numbered := self.requests.get()) is not None:
            number, request = numbered
            self._answer(Run(request, self, number))

    def send(self, event: str, **content: Any) -> None:
        """Send an event. A closed pipe is not an error, but it cancels all work."""
        line = memoryview(event_line(event, content))
        with self.sending:
            try:
                while line:
                    line = line[self.events.write(line) :]
            except OSError:
                self.cancel(math.inf)

    def cancel(self, number: float) -> None:
        """Cancel the runs up to a number."""
        with self.changed:
            self.cancelled = number
            self.changed.notify_all()

    def clean(self) -> None:
        """Remove partial output of the current run."""
        if self.run is not None:
            self.run.clean()

    # ---- the thread that listens ----

    def _listen(self) -> None:
        try:
            for line in lines(self.commands):
                if not self._take(line):
                    break
        finally:
            self.cancel(math.inf)
            self.requests.put(None)
            # Usually the process exits during this sleep. If not, something blocks it, and it is ended here.
            time.sleep(GRACE)
            self.clean()
            os._exit(0)

    def _take(self, line: bytes) -> bool:
        """Take a command; returns whether to continue listening."""
        job = None
        try:
            command = read_command(line)
            job = command.get("job")
            if command["cmd"] == "run":
                request = request_of(command)
                self.newest += 1
                self.requests.put((self.newest, request))
            elif command["cmd"] == "describe":
                self._describe_folder(job, command.get("bundle"))
            elif command["cmd"] == "cancel":
                self.cancel(self.newest)
            return bool(command["cmd"] != "quit")
        except InputError as error:
            self.send("error", job=job, code="protocol", message=str(error))
            return True

    def _describe_folder(self, job: Any, folder: Any) -> None:
        """Describe a bundle that is not shipped; nothing in it is executed."""
        if not isinstance(folder, str) or not folder:
            raise InputError(f"not a valid describe: bundle is {folder!r}, expected the path of a folder")
        try:
            bundle = find_bundle(f"{folder}{os.sep}", trusted=True)  # a path, not a shipped bundle's name
            name = bundle.name if is_shipped(bundle) else str(bundle.root)
            described = {**_describe(bundle), "name": name, "unsafe": first_unsafe_part(bundle)}
        except (InputError, OSError, ValueError) as error:
            self.send("error", job=job, code="input", message=sentence_of(error))
        else:
            self.send("bundle", job=job, **described)

    # ---- the thread that works ----

    def _prepare(self) -> None:
        """Import the slow libraries."""
        try:
            import_monai_for_segmentation()
            from monai_r2unet.apps.worker.runner import Runner
            from monai_r2unet.inference.devices import list_devices

            self.runner = Runner()
            self.send("devices", devices=list_devices())
        except BaseException:  # the installation is broken, so every run would fail in the same way
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _work(self, run: Run) -> Answer:
        if self.runner is None:
            raise RuntimeError("a run began before its imports")
        return self.runner.do(run)

    # ---- the main thread ----

    def _answer(self, run: Run) -> None:
        self.run = run
        work: Future[Answer] = self.working.submit(self._work, run)
        work.add_done_callback(lambda _: self._wake())
        with self.changed:
            self.changed.wait_for(lambda: work.done() or run.is_cancelled())
        if work.done():
            event, content = work.result()
        else:
            run.abandon()
            event, content = "cancelled", {}
        self.run = None
        self.send(event, job=run.request.job, **content)

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()


def _describe(bundle: Bundle) -> dict[str, Any]:
    texts = ("version", "task", "description", "intended_use", "limits", "data_source")
    return {
        "name": bundle.name,
        "title": str(bundle.metadata.get("name", bundle.name)),
        **{key: str(bundle.metadata.get(key, "")) for key in texts},
        "modality": str(bundle.image_format.get("modality", "")),
        "channels": bundle.image_format["num_channels"],
        "scale": scale if isinstance(scale := bundle.image_format.get("scale"), dict) else {},
        "labels": bundle.labels,
        "weights": bundle.weights_state(),
        "licence": bundle.weights_licence,
    }


def main() -> NoReturn:
    """Serve on standard input and output, then exit."""
    keep_freed_memory()
    open_standard_streams()
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # anything printed, even by C code, goes to standard error
    sys.stdout = sys.stderr
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    worker = Worker(0, events)
    code = 0
    try:
        worker.serve()
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
    worker.cancel(math.inf)
    worker.clean()
    # Skip the interpreter's shutdown, which waits for the work and takes seconds once torch has been imported.
    sys.stderr.flush()
    os._exit(code)
