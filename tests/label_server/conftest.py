"""A real MONAI Label server in a process of its own, and MONAI Label's own client for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from monailabel.client import MONAILabelClient

from tests.helpers.dicom_programs import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
STARTED = 300  # seconds that a busy machine may take; a quiet one takes 15
TRAINED = 600


@dataclass
class Server:
    """A running server: its address, its client, and its working folder."""

    url: str
    client: MONAILabelClient
    work: Path

    def score(self, method: str) -> dict[str, Any]:
        """Run a scoring method and wait for it; MONAI Label's client has no call for it."""
        answer = requests.post(f"{self.url}/scoring/{method}?run_sync=true", timeout=TRAINED)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def train(self, model: str, **params: Any) -> str:
        """Train and wait; the status and the last lines that the training printed."""
        self.client.train_start(model, {"device": "cpu", **params})
        self.until(lambda: self.client.train_status()["status"] not in ("SUBMITTED", "RUNNING"))
        status = self.client.train_status()
        return "\n".join([status["status"], *status["details"]])

    def until(self, done: Callable[[], bool]) -> None:
        """Wait for something that a training brings about."""
        give_up = time.monotonic() + TRAINED
        while not done():
            assert time.monotonic() < give_up, "it did not come about"
            time.sleep(0.5)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something answers at an address."""
    give_up = time.monotonic() + STARTED
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(url, timeout=STARTED).ok:
                return
        if process.poll() is not None or time.monotonic() > give_up:
            pytest.fail(f"nothing answers at {url}:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.3)


@contextlib.contextmanager
def running(studies: str | Path, work: Path, *arguments: str) -> Iterator[Server]:
    """The server, as `make label-server` starts it; it has to leave when it is asked to."""
    port = free_port()
    command = [sys.executable, "-m", "label_server.serve", "--studies", str(studies), "--work", str(work)]
    log = work.with_suffix(".log")
    # Whatever would be downloaded comes to nothing.
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"no_proxy": "127.0.0.1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **offline},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/info/", process, log)
        received = work.parent / f"{work.name}_received"
        received.mkdir(exist_ok=True)
        yield Server(url, MONAILabelClient(url, tmpdir=str(received)), work)
        assert process.poll() is None, "the server died"
        os.killpg(process.pid, signal.SIGINT)  # Ctrl+C
        process.wait(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """`running`."""
    return running


def segment(image: Path, mask: Path, *arguments: str) -> None:
    """The command line, in this environment."""
    command = [sys.executable, "-m", "monai_r2unet", "segment", str(image), str(mask), "--device", "cpu", *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


@pytest.fixture(scope="session", name="segment")
def _segment() -> Callable[..., None]:
    """`segment`."""
    return segment
