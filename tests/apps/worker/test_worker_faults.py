"""The worker when it is cancelled, gets nonsense, fails, or loses its parent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.images.reading import read_image
from tests.apps.worker.worker_process import NOISY, Client
from tests.helpers.arrays import values
from tests.helpers.bundle_runs import environment
from tests.helpers.lung_examples import copy_bundle, write_random_weights, write_troubled

# ---- cancelled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["reading", "writing"])
def test_what_cannot_be_interrupted_is_left_to_itself(client: Client, ct: str, tmp_path: Path, step: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source, output = ct, out / "slow.nrrd"
    if step == "reading":
        source, output = str(tmp_path / "slow.nrrd"), out / "mask.nrrd"
        Path(source).write_bytes(Path(ct).read_bytes())
    output.write_text("old")
    client.send("run", job=1, bundle="lung", device="cpu", input=source, output=str(output), overwrite=True)
    if step == "writing":
        while len(list(out.iterdir())) < 2:
            time.sleep(0.01)
    else:
        time.sleep(0.5)
    client.send("cancel")
    cancelled = time.perf_counter()
    assert client.until("cancelled", "done")[-1] == {"event": "cancelled", "job": 1}
    assert time.perf_counter() - cancelled < 1
    assert [path.name for path in out.iterdir()] == [output.name]
    done = client.run(job=2, input=ct, output=str(out / "next.nrrd"))
    assert {event["job"] for event in done} == {2}
    assert done[-1]["event"] == "done"
    assert output.read_text() == "old"
    assert sorted(path.name for path in out.iterdir()) == sorted([output.name, "next.nrrd"])


def test_cancelling_at_any_moment_leaves_all_or_nothing(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path
) -> None:
    weights = write_random_weights(tmp_path / "own.pt", seed=1)
    seen = set()
    for moment in range(24):
        output = tmp_path / f"{moment}.nii.gz"
        more = {"weights": str(weights)} if moment % 2 else {}  # so that it has to load
        client.send("run", job=moment, bundle="lung", device="cpu", input=ct, output=str(output), **more)
        time.sleep(0.012 * moment)
        client.send("cancel")
        *others, end = client.until("done", "cancelled")
        assert {event["job"] for event in [*others, end]} == {moment}
        assert output.exists() == (end["event"] == "done")
        seen.add(end["event"])
    assert "cancelled" in seen
    assert client.run(input=ct, output=str(tmp_path / "last.nrrd"))[-1]["event"] == "done"
    np.testing.assert_array_equal(values(sitk.ReadImage(str(tmp_path / "last.nrrd"))), expected)
    assert not list(tmp_path.glob(".*"))


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_lines_that_are_no_command_are_answered_and_survived(client: Client) -> None:
    lines = ["hello", "[1]", '{"cmd": "dance", "job": 4}', "\x00\xff", "[" * 100_000, '{"cmd": "run", "job": 5}']
    for line in lines:
        client.say(line)
        client.say("")
    got = [client.next() for _ in lines]
    assert {(event["event"], event["code"]) for event in got} == {("error", "protocol")}
    assert [event["job"] for event in got] == [None, None, None, None, None, 5]
    assert "expected an object whose cmd is run, describe, cancel or quit" in got[2]["message"]
    assert got[5]["message"] == "not a valid run: bundle is missing"


def test_errors_are_sentences_and_nothing_is_written(client: Client, ct: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "there.nrrd").write_text("old")
    for name in ("memory", "boom"):
        (tmp_path / f"{name}.nrrd").write_bytes(Path(ct).read_bytes())
    mask = str(out / "mask.nrrd")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"input": str(tmp_path / "none.nrrd"), "output": mask}, "input", "there is no file or folder"),
        ({"input": ct, "output": ct, "overwrite": True}, "input", "both the input and the output"),
        ({"input": ct, "output": str(out / "there.nrrd")}, "input", "exists already"),
        ({"input": ct, "output": str(out / "mask.bmp")}, "input", "unknown ending"),
        ({"input": ct, "output": mask, "bundle": "liver"}, "input", "unknown bundle 'liver'"),
        ({"input": ct, "output": mask, "device": "banana"}, "input", "device 'banana' cannot be used"),
        ({"input": ct, "output": mask, "weights": ct}, "input", "is not a file of tensors"),
        ({"input": ct, "output": mask, "slices": [4]}, "input", "slices are [4], expected"),
        ({"input": str(tmp_path / "memory.nrrd"), "output": mask}, "memory", "not enough memory"),
        ({"input": str(tmp_path / "boom.nrrd"), "output": mask}, "internal", "unexpected RuntimeError: boom"),
        ({"input": ct, "output": f"{mask}\0.nrrd"}, "protocol", "output holds a null character"),
        ({"input": ct, "output": str(out / "full.nrrd")}, "output", "is the disk full"),
    ]
    for index, (content, code, words) in enumerate(cases):
        error = client.run(job=index, **content)[-1]
        assert (error["event"], error["job"], error["code"]) == ("error", index, code), error
        assert words in error["message"]
        assert "\n" not in error["message"]
    assert [path.name for path in out.iterdir()] == ["there.nrrd"]
    assert (out / "there.nrrd").read_text() == "old"
    assert client.run(input=ct, output=mask)[-1]["event"] == "done"


def test_images_with_something_lost_are_refused_and_the_queue_goes_on(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.nrrd"
    for index, (name, words) in enumerate(write_troubled(tmp_path).items()):
        error = client.run(job=index, input=str(tmp_path / name), output=str(mask))[-1]
        assert (error["event"], error["code"]) == ("error", "input"), error
        assert words in error["message"]
        assert "\n" not in error["message"]
        assert not mask.exists()
    assert client.run(input=ct, output=str(mask))[-1]["event"] == "done"
    np.testing.assert_array_equal(values(read_image(mask)), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
@pytest.mark.parametrize(
    "name",
    [b"M\xfcller", b"y" * 248, "肺 Łódź".encode(), b"new\nline", b" ct ", b"50%d"],
    ids=lambda name: repr(name)[:9],
)
def test_names_of_any_kind_cost_neither_the_mask_nor_the_queue(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path, name: bytes
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    source, output = folder / f"{os.fsdecode(name)}.nrrd", folder / f"{os.fsdecode(name)}.nii.gz"
    shutil.copy(ct, source)
    queue = [(1, str(source), str(output)), (2, ct, str(tmp_path / "next.nrrd"))]
    for job, image, mask in queue:
        client.send("run", job=job, bundle="lung", device="cpu", input=image, output=mask)
    for job, _, mask in queue:
        done = client.until("done", "error")[-1]
        assert (done["event"], done["job"], done["output"]) == ("done", job, mask)
        np.testing.assert_array_equal(values(read_image(mask)), expected)
    assert sorted(path.name for path in folder.iterdir()) == sorted([source.name, output.name])
    missing = client.run(job=3, input=f"{source}.nrrd", output=str(tmp_path / "none.nrrd"))[-1]
    assert (missing["event"], missing["code"]) == ("error", "input")


def test_warnings_are_told_when_they_arise_and_at_the_end(client: Client, tmp_path: Path) -> None:
    nib.Nifti1Image(np.full((32, 32, 2), 7, np.int16), None).to_filename(tmp_path / "odd.nii")
    events = client.run(job=1, input=str(tmp_path / "odd.nii"), output=str(tmp_path / "mask.nrrd"))
    told = [event["message"] for event in events if event["event"] == "log" and event["level"] == "warning"]
    assert "odd.nii has no orientation" in told[0]
    assert "cannot be Hounsfield units" in told[1]
    assert events[-1]["warnings"] == told
    assert len(told) == 2


# ---- how it leaves ---------------------------------------------------------------------------------------------------


def test_the_greeting_does_not_wait_for_slow_imports() -> None:
    script = "import monai_r2unet.worker, sys; print({'torch', 'monai', 'SimpleITK'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "set()\n"


def test_a_run_is_cancelled_and_the_worker_leaves_while_it_still_imports(ct: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "monai_r2unet.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    run = {"cmd": "run", "job": 1, "bundle": "lung", "input": ct, "output": str(tmp_path / "mask.nrrd")}
    process.stdin.write(json.dumps(run) + '\n{"cmd": "cancel"}\n')
    process.stdin.flush()
    events = [json.loads(process.stdout.readline()[2:]) for _ in range(2)]
    assert [event["event"] for event in events] == ["ready", "cancelled"]  # and not yet the devices
    process.stdin.close()
    closed = time.perf_counter()
    assert process.wait(timeout=10) == 0
    assert time.perf_counter() - closed < 3
    assert "devices" not in process.stdout.read()
    process.stdout.close()
    assert not list(tmp_path.glob("*mask*"))


def test_a_bundle_that_is_not_shipped_runs_when_it_is_trusted(client: Client, ct: str, tmp_path: Path) -> None:
    bundle = str(copy_bundle(tmp_path) / "lung")
    output = str(tmp_path / "mask.nrrd")
    error = client.run(input=ct, output=output, bundle=bundle)[-1]
    assert (error["event"], error["code"]) == ("error", "input")
    assert "can execute any code" in error["message"]
    assert client.run(input=ct, output=output, bundle=bundle, trust_bundle=True, cpu_fallback=True)[-1]["voxels"] > 0


def test_as_a_module_with_own_weights_it_quits_when_told(ct: str, long: str, tmp_path: Path) -> None:
    client = Client([sys.executable, "-m", "monai_r2unet.worker"])
    weights = str(write_random_weights(tmp_path / "own.pt"))
    assert client.run(input=ct, output=str(tmp_path / "a.nii.gz"), weights=weights, slices=[1])[-1]["event"] == "done"
    client.send("run", job=2, bundle="lung", device="cpu", weights=weights, input=long, output=str(tmp_path / "b.nrrd"))
    client.until("progress")
    client.send("quit")
    assert client.until("cancelled")[-1]["job"] == 2
    assert client.process.wait(timeout=5) == 0
    assert client.events.get(timeout=5) is None
    assert not list(tmp_path.glob("*b.nrrd*"))


PARENT = """
import json, subprocess, sys, time
worker = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
worker.stdin.write((sys.argv[1] + "\\n").encode())
worker.stdin.flush()
for line in worker.stdout:
    print(line.decode(), end="", flush=True)
"""


@pytest.mark.parametrize("moment", ["in the middle of a batch", "while it writes"])
def test_it_leaves_within_three_seconds_when_its_parent_is_killed(
    moment: str, bundles: Path, ct: str, long: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run: dict[str, Any] = {"cmd": "run", "bundle": "lung", "device": "cpu"}
    if moment == "while it writes":
        run |= {"input": ct, "output": str(out / "slow.nrrd")}
        sign = "WRITING"
    else:
        run |= {"input": long, "output": str(out / "mask.nrrd"), "batch_size": 1200}  # one batch of many seconds
        sign = "loaded lung"
    # All that they print goes into one pipe, which closes when the last process that holds it has ended.
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, json.dumps(run), sys.executable, "-c", NOISY, str(bundles)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        text=True,
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if sign in line:
            break
    else:
        pytest.fail("the worker left before it was at work")
    time.sleep(0.3)
    os.kill(parent.pid, signal.SIGKILL)
    killed = time.perf_counter()
    rest = parent.stdout.read()  # until the worker is gone
    assert time.perf_counter() - killed < 3
    assert "Traceback" not in rest
    assert '"done"' not in rest
    assert list(out.iterdir()) == []
    parent.wait()
