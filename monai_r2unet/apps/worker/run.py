"""One run of the worker, between the thread that does it and the one that may give it up."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any, Protocol

from monai_r2unet.apps.worker.protocol import Request

__all__ = ["Cancelled", "Run"]


class Cancelled(Exception):
    """The caller no longer wants this run."""


class Sender(Protocol):
    """What a run needs of its worker: a way to send events, and what was cancelled."""

    cancelled: float  # runs up to this number
    changed: threading.Condition

    def send(self, event: str, **content: Any) -> None:
        """Send an event."""
        ...


class Run:
    """A run at work: the thread that works asks it whether to go on, the main thread gives it up.

    Args:
        run: what is asked for.
        worker: that sends its events and knows what was cancelled.
        number: of the run.
    """

    def __init__(self, request: Request, worker: Sender, number: int) -> None:
        self.request = request
        self.worker = worker
        self.number = number
        self.telling = threading.Lock()
        self.workspace: Path | None = None  # folder with the output that is being written
        self.abandoned = False
        self.committed = False

    def is_cancelled(self) -> bool:
        """Whether the caller no longer wants it, and said so in time."""
        return self.number <= self.worker.cancelled and not self.committed

    def stop_if_cancelled(self) -> None:
        """End the work here if nobody wants it.

        Raises:
            Cancelled: if so.
        """
        if self.abandoned or self.is_cancelled():
            raise Cancelled

    def tell(self, event: str, **content: Any) -> None:
        """Send an event of this run, unless it was cancelled."""
        with self.telling:
            if not self.abandoned:
                self.worker.send(event, job=self.request.job, **content)

    def abandon(self) -> None:
        """Leave the work to itself: from now on it tells and writes nothing."""
        with self.telling:
            self.abandoned = True
        self.clean()

    def clean(self) -> None:
        """Remove what it has begun to write."""
        for _ in range(10):  # it may just be adding a file
            if self.workspace is None or not self.workspace.exists():
                break
            shutil.rmtree(self.workspace, ignore_errors=True)

    def begin_writing(self, workspace: Path) -> None:
        """Make the folder that is removed if the run is cancelled.

        Raises:
            Cancelled: if it is already.
        """
        with self.worker.changed:
            self.stop_if_cancelled()
            workspace.mkdir()
            self.workspace = workspace

    def commit(self, written: Path, output: Path) -> None:
        """Give a written file its name; from now on the run cannot be cancelled.

        Raises:
            Cancelled: if it was before.
        """
        with self.worker.changed:
            self.stop_if_cancelled()
            written.replace(output)
            self.committed = True
