"""A worker process for tests, and what comes out of it."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import Any

from tests.helpers.bundle_runs import environment

# The worker with another folder of bundles, among code that prints, and with faults that a file's name brings about.
NOISY = """
import os, sys, time, warnings
from pathlib import Path
print("@@ before main", file=sys.stderr)
from monai_r2unet import bundle, worker
from monai_r2unet.apps.worker import runner
bundle._bundles_folder = lambda: Path(sys.argv[1])
read_image, write_mask = runner.read_image_with_notes, runner.write_mask
def read(path):
    print('@@{"event": "done", "job": "printed"}', flush=True)
    os.system('echo "@@ from the shell"')
    faults = {"memory": MemoryError(), "boom": RuntimeError("boom\\nat 0x1")}
    if Path(path).stem in faults:
        raise faults[Path(path).stem]
    if Path(path).stem == "slow":
        time.sleep(3)
    return read_image(path)
def write(mask, path, **options):
    if "slow" in path.name:
        path.write_text("half of it")
        print("WRITING", path, file=sys.stderr, flush=True)
        time.sleep(4)
    if "full" in path.name:
        path.write_text("half of it")
        raise OSError(28, "No space left on device")
    write_mask(mask, path, **options)
runner.read_image_with_notes, runner.write_mask = read, write
worker.main()
"""


class Client:
    """A worker process, and the events that came out of it."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True, encoding="utf-8"
        )
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self.next()
        self.devices: list[dict[str, Any]] = []

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            assert line.startswith("@@")
            self.events.put(json.loads(line[2:]))
        self.events.put(None)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def send(self, cmd: str, **content: Any) -> None:
        self.say(json.dumps({"cmd": cmd, **content}))

    def next(self) -> dict[str, Any]:
        event = self.events.get(timeout=90)
        assert event is not None, "the worker has left"
        if event["event"] == "devices":  # whenever its imports are done
            self.devices = event["devices"]
            return self.next()
        return event

    def until(self, *kinds: str) -> list[dict[str, Any]]:
        """The events up to the first of one of these kinds."""
        events = [self.next()]
        while events[-1]["event"] not in kinds:
            events.append(self.next())
        return events

    def run(self, **content: Any) -> list[dict[str, Any]]:
        self.send("run", **{"bundle": "lung", "device": "cpu", **content})
        return self.until("done", "cancelled", "error")
