"""A job on two hosts, which here are two network namespaces joined by a cable that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.bundle_runs import history
from tests.helpers.lung_examples import SIZE
from tests.training.distributed.jobs import Job, reached, training, until

TIMEOUT = 10  # seconds; the bundles' own 60 would only make the test longer


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """Two network namespaces of one machine, so that they share its files."""

    def __init__(self) -> None:
        number = os.getpid()
        self.names = [f"r2u{number}a", f"r2u{number}b"]
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        one, other = self.names
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other)
        for rank, name in enumerate(self.names):
            ip("-n", name, "address", "add", f"10.77.0.{1 + rank}/24", "dev", "cable")
        self.plug()

    def plug(self) -> None:
        for name in self.names:
            ip("-n", name, "link", "set", "cable", "up")

    def cut(self) -> None:
        ip("-n", self.names[0], "link", "set", "cable", "down")

    def close(self) -> None:
        for name in self.names:
            ip("netns", "delete", name)

    def start(self, rank: int, log: Path, arguments: list[str]) -> Job:
        static = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)]
        master = ["--master-addr", "10.77.0.1", "--master-port", "29400"]
        inside = ("ip", "netns", "exec", self.names[rank], "env", "GLOO_SOCKET_IFNAME=cable")
        return Job([*static, *master, *arguments], log, inside)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("two hosts need network namespaces, and there is no `ip`: install iproute2")
    try:
        made = Hosts()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"two hosts need network namespaces, and none can be made here, for want of root: {error.stderr}")
    yield made
    made.close()


def test_a_cut_cable_ends_the_job_on_both_hosts_and_the_same_command_goes_on(
    hosts: Hosts, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"dataset_dir": data, "output_dir": out, "slice_size": SIZE, "batch_size": 2}

    def started(part: int, **more: object) -> list[Job]:
        arguments = training("lung", resume="auto", timeout=TIMEOUT, **options, **more)
        return [hosts.start(rank, tmp_path / f"{part}-{rank}.log", arguments) for rank in (0, 1)]

    with ExitStack() as stack:
        jobs = [stack.enter_context(job) for job in started(1, epochs=1000)]
        until(lambda: reached(out, 2), 300, *jobs)
        hosts.cut()
        cut = time.monotonic()
        codes = [job.wait(TIMEOUT + 60) for job in jobs]
        assert time.monotonic() - cut < TIMEOUT + 60
        assert all(code != 0 for code in codes)
        assert [job.workers() for job in jobs] == [[], []]
    before = history(out)
    done = max(int(path.stem.partition("=")[2]) for path in (out / "resume").glob("*.pt"))
    assert done in (len(before), len(before) - 1)

    hosts.plug()
    with ExitStack() as stack:
        jobs = [stack.enter_context(job) for job in started(2, epochs=done + 2)]
        codes = [job.wait(300) for job in jobs]
        assert codes == [0, 0], "\n".join(job.output for job in jobs)
    assert [row["epoch"] for row in history(out)] == list(range(1, done + 3))
    assert history(out)[:done] == before[:done]
    assert (out / "results.json").exists()
    # Rank 0, which alone prints the results, is the process of the host with the rank 0.
    assert ["of the best epoch" in job.output for job in jobs] == [True, False]
