"""A job that loses a process: it ends with an error, or torchrun starts it again where it was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.bundle_runs import QUIET, checkpoint, history, in_checkout, workflow
from tests.helpers.lung_examples import SIZE
from tests.training.distributed.jobs import Job, alive, reached, training, until

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


def test_a_killed_process_is_restarted_from_the_last_checkpoint_and_a_second_one_ends_the_job(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"dataset_dir": data, "output_dir": out, "slice_size": SIZE, "batch_size": 2}
    # Left by an earlier training, of which a restart must take nothing.
    (out / "resume").mkdir(parents=True)
    (out / "resume" / "checkpoint_epoch=1000.pt").write_bytes(b"of another training")
    arguments = [
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        *training("lung", epochs=1000, **options),
    ]
    with Job(arguments, tmp_path / "log") as job:
        until(lambda: (out / "resume_before").exists() and reached(out, 2), 300, job)
        first = job.workers()
        assert len(first) == 2
        os.kill(first[1], signal.SIGKILL)
        until(lambda: not any(alive(one) for one in first), 60, job)
        done = len(history(out))
        reached_before = max(int(path.stem.partition("=")[2]) for path in (out / "resume").glob("*.pt"))
        assert reached_before in (done, done - 1)

        until(lambda: reached(out, reached_before + 2), 300, job)
        second = job.workers()
        assert len(second) == 2
        assert not set(first) & set(second)
        os.kill(second[0], signal.SIGKILL)
        killed = time.monotonic()
        assert job.wait(60) != 0
        assert time.monotonic() - killed < 60
        assert not any(alive(one) for one in second)
    assert "Traceback" in job.output or "ChildFailedError" in job.output

    # Every epoch once, though two were cut short.
    rows = history(out)
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    last = max(int(path.stem.partition("=")[2]) for path in (out / "resume").glob("*.pt"))
    assert last >= len(rows) - 1
    # And one process with batches as large as the two had together can take it to its end.
    resumed = workflow(
        "training", "bundles/lung/train.json", epochs=last + 1, resume=True, **{**options, "batch_size": 4}
    )
    resumed.run()
    assert [row["epoch"] for row in history(out)] == list(range(1, last + 2))
    assert history(out)[:last] == rows[:last]
    assert checkpoint(out, last + 1)["trainer"]["iteration"] == 2 * (last + 1)
