"""A DICOM node as a process, and what its page says."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.helpers.bundle_runs import environment
from tests.helpers.dicom_programs import free_port, storescu

PATIENCE = 300  # seconds that a busy machine may take


def settings_of(folder: Path, bundle: Path, archive_port: int, **changes: Any) -> dict[str, Any]:
    """Settings for tests: quick to take a series as complete, and loopback only."""
    return {
        "ae_title": "NODE",
        "host": "127.0.0.1",
        "port": free_port(),
        "spool": str(folder / "spool"),
        "senders": [{"ae_title": "SCANNER", "address": "127.0.0.1"}],
        "archive": {"ae_title": "ARCHIVE", "address": "127.0.0.1", "port": archive_port},
        "rules": [
            {"modality": "CT", "body_part": "CHEST", "slices": [2, 100], "bundle": str(bundle), "trust_bundle": True}
        ],
        "device": "cpu",
        "limits": {"free_gb": 0.001},
        "seconds": {"after_release": 0.5, "after_silence": 30},
        "page": {"port": 0},
        **changes,
    }


class Node:
    """A node that is started, killed and started again with the same settings.

    Args:
        folder: Folder for the settings and the log.
        settings: The settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.port, self.spool = settings["port"], Path(settings["spool"])
        self.file, self.log = folder / "node.json", folder / "node.log"
        self.file.write_text(json.dumps(settings))
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        """Start the process, and wait until it receives."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monai_r2unet", "dicom-node", str(self.file)],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        told: queue.Queue[str] = queue.Queue()
        threading.Thread(
            target=lambda pipe: told.put(pipe.readline()), args=(self.process.stdout,), daemon=True
        ).start()
        self.address = told.get(timeout=PATIENCE).strip()
        assert self.address, self.log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=30)

    def state(self) -> dict[str, Any]:
        """What the page says, as JSON."""
        address = urlsplit(self.address)
        with urllib.request.urlopen(address._replace(path="/status.json").geturl(), timeout=30) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    def records(self) -> list[dict[str, Any]]:
        """What became of the series."""
        return [json.loads(path.read_text()) for path in sorted(self.spool.glob("records/*.json"))]

    def until(self, what: Callable[[], bool], every: float = 0.1) -> None:
        """Wait for something, looking every so many seconds."""
        give_up = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < give_up, self.log.read_text()
            time.sleep(every)

    def send(self, *folders: Path, **titles: str) -> int:
        """Send series by dcmtk's storescu; returns its exit code."""
        return subprocess.run(storescu(self.port, *folders, **titles), capture_output=True).returncode
