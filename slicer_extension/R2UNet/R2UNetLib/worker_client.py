"""Slicer's side of the worker process of the package monai_r2unet, which does all computing.

The commands and events are those of ``monai_r2unet.worker``: JSON, one object per line.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from .processes import LineProcess
from .pythons import Python

PROTOCOL = 3  # of the worker; a different number means that the package and this extension are incompatible
MARK = "@@"  # before each event, because libraries print too
FAREWELL = 4000  # milliseconds in which the worker may exit by itself


class WorkerClient:
    """Starts the worker when it is first needed and keeps it, so that its bundle stays loaded.

    Args:
        on_event: Called with each event, a dict with the key ``event``.
        on_text: Called with each other line that the worker prints.
        on_gone: Called when the worker has exited unexpectedly, with its exit code (None: it crashed or did not start).
    """

    def __init__(
        self,
        on_event: Callable[[dict[str, Any]], None],
        on_text: Callable[[str], None],
        on_gone: Callable[[int | None], None],
    ) -> None:
        self._on_event = on_event
        self._on_text = on_text
        self._on_gone = on_gone
        self._leaving = False
        self._process = LineProcess(self._take_output, self._take_text, self._ended)
        self.ready: dict[str, Any] | None = None
        self.devices: list[dict[str, Any]] = []
        self.last_text: deque[str] = deque(maxlen=20)

    @property
    def running(self) -> bool:
        """Whether there is a worker, ready or not."""
        return self._process.running

    def start(self, python: Python) -> None:
        """Start the worker, unless it is running. Commands sent before it is ready are queued."""
        if not self.running:
            self.ready, self.devices = None, []
            self.last_text.clear()
            self._leaving = False
            self._process.start(python.program, ["-u", "-m", "monai_r2unet.worker"], python.environment)

    def send(self, cmd: str, **content: Any) -> None:
        """Send a command."""
        self._process.write(json.dumps({"cmd": cmd, **content}))

    def kill(self) -> None:
        """Kill a worker that does not respond."""
        self._process.kill()

    def stop(self) -> None:
        """Ask the worker to exit, and wait for it, when the module, Slicer or this Python ends."""
        if not self.running:
            return
        self._leaving = True
        self.send("quit")
        self._process.close_input()
        if not self._process.wait(FAREWELL):
            self._process.kill()
            self._process.wait(FAREWELL)

    def _take_output(self, line: str) -> None:
        if not line.startswith(MARK):
            self._take_text(line)
            return
        event = json.loads(line[len(MARK) :])
        if event["event"] == "ready":
            self.ready = event
        self.devices = event.get("devices", self.devices)
        self._on_event(event)

    def _take_text(self, line: str) -> None:
        self.last_text.append(line)
        self._on_text(line)

    def _ended(self, code: int | None) -> None:
        self.ready = None
        if not self._leaving:
            self._on_gone(code)
