"""Jobs of several processes: started as users do, watched, robbed of a process or of the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.bundle_runs import REPOSITORY, command, environment, file_of

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def training(bundle: str, **options: object) -> list[str]:
    """The arguments that follow ``torchrun``: a training of a bundle in several processes, on CPUs."""
    return command("training", file_of(bundle, "train"), file_of(bundle, "multi_gpu_train"), device="cpu", **options)


class Job:
    """A torchrun and its workers, ``with Job(...)``: none of them outlives the block."""

    def __init__(self, arguments: list[str], log: Path, prefix: tuple[str, ...] = ()) -> None:
        self.log = log
        with log.open("wb") as file:
            self.torchrun = subprocess.Popen(
                [*prefix, *TORCHRUN, *arguments],
                cwd=REPOSITORY,
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        for process in [*self.workers(), self.torchrun.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.torchrun.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """The processes in the job's session but torchrun itself: torchrun gives each worker a session of its own."""
        return sorted(_children(self.torchrun.pid))

    def wait(self, seconds: float) -> int:
        try:
            return self.torchrun.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"torchrun still runs after {seconds} s:\n{self.output}") from None


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            # After the name, which may hold anything but is in brackets, come the state and the parent.
            state, of = stat.rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z":
                found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float, *jobs: Job) -> None:
    """Wait for a condition; fail when the time is over or a job has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        for job in jobs:
            assert job.torchrun.poll() is None, f"the job ended:\n{job.output}"
        assert time.monotonic() < deadline, "\n".join(job.output for job in jobs)
        time.sleep(0.05)


def reached(out: Path, epoch: int) -> bool:
    """Whether a checkpoint of this epoch or a later one is there."""
    return any(int(path.stem.partition("=")[2]) >= epoch for path in (out / "resume").glob("checkpoint_epoch=*.pt"))
