"""The viewer's side of the worker process, which does all computing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from monai_r2unet.apps.worker.protocol import read_event

__all__ = ["WorkerClient"]

FAREWELL = 4.0  # seconds in which the worker may exit by itself
LINE = 1 << 22  # bytes; the greeting holds the cards of all bundles


class WorkerClient:
    """Starts the worker and listens to it without blocking.

    Args:
        command: Command that starts the worker.
        on_event: Called with each event, a dict with the key ``event``.
        on_gone: Called with the last printed lines when the worker has exited unexpectedly.
    """

    def __init__(
        self, command: Sequence[str], on_event: Callable[[dict[str, Any]], None], on_gone: Callable[[str], None]
    ) -> None:
        self.command = command
        self.on_event = on_event
        self.on_gone = on_gone
        self.process: Process | None = None
        self.listening: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a worker, ready or not."""
        return self.process is not None

    async def start(self) -> None:
        """Start the worker, unless it is running."""
        if self.process is None:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LINE
            )
            self.listening = asyncio.create_task(self._listen(self.process))

    def send(self, cmd: str, **content: Any) -> None:
        """Send a command; a worker that is exiting ignores it."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.write(json.dumps({"cmd": cmd, **content}).encode("ascii") + b"\n")

    async def stop(self) -> None:
        """Ask the worker to exit, and wait for it."""
        process, self.process = self.process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), FAREWELL)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        last: deque[str] = deque(maxlen=20)

        async def keep(lines: asyncio.StreamReader) -> None:
            async for line in lines:
                last.append(line.decode("utf-8", "replace").rstrip())

        keeping = asyncio.create_task(keep(process.stderr))
        async for line in process.stdout:
            event = read_event(line)
            if event is None:
                last.append(line.decode("utf-8", "replace").rstrip())
            else:
                self.on_event(event)
        await keeping
        await process.wait()
        if self.process is process:
            self.process = None
            self.on_gone("\n".join(last))
