"""One run of the worker, shared by the thread that works on it and the one that may cancel it."""

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
    """The part of the worker that a run uses: sending events, and the state of cancellation."""

    cancelled: float  # all runs up to this number are cancelled
    changed: threading.Condition

    def send(self, event: str, **content: Any) -> None:
        """Send an event."""
        ...


class Run:
    """A run in progress: the working thread checks it for cancellation, the main thread abandons it.

    Args:
        request: The request.
        worker: The worker that sends the events and keeps the state of cancellation.
        number: Number of the run.
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
        """Whether the caller cancelled the run in time."""
        return self.number <= self.worker.cancelled and not self.committed

    def stop_if_cancelled(self) -> None:
        """Stop the work if the run was cancelled.

        Raises:
            Cancelled: if it was.
        """
        if self.abandoned or self.is_cancelled():
            raise Cancelled

    def tell(self, event: str, **content: Any) -> None:
        """Send an event of this run, unless it was cancelled."""
        with self.telling:
            if not self.abandoned:
                self.worker.send(event, job=self.request.job, **content)

    def abandon(self) -> None:
        """Abandon the work, which continues without effect: it can no longer send or write anything."""
        with self.telling:
            self.abandoned = True
        self.clean()

    def clean(self) -> None:
        """Remove partial output."""
        for _ in range(10):  # the work may be adding a file at this moment
            if self.workspace is None or not self.workspace.exists():
                break
            shutil.rmtree(self.workspace, ignore_errors=True)

    def begin_writing(self, workspace: Path) -> None:
        """Make the folder that is removed if the run is cancelled.

        Raises:
            Cancelled: if the run has already been cancelled.
        """
        with self.worker.changed:
            self.stop_if_cancelled()
            workspace.mkdir()
            self.workspace = workspace

    def commit(self, written: Path, output: Path) -> None:
        """Rename the written file to its final name; after this the run cannot be cancelled.

        Raises:
            Cancelled: if the run has been cancelled.
        """
        with self.worker.changed:
            self.stop_if_cancelled()
            written.replace(output)
            self.committed = True
