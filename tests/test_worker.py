"""The worker, as a process at the end of two pipes: what Slicer and the viewer see of it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from lung_examples import copy_bundle, small_ct, write_random_weights

from monai_r2unet import __version__
from monai_r2unet.errors import InputError
from monai_r2unet.io import same_grid, write_image
from monai_r2unet.protocol import Run, read_command, run_of
from monai_r2unet.segmenter import Segmenter
from monai_r2unet.slices import axial_axis, put_slices, take_slices

# The worker with another folder of bundles, among code that prints, and with faults that a file's name brings about.
NOISY = """
import os, sys, time, warnings
from pathlib import Path
print("@@ before main", file=sys.stderr)
from monai_r2unet import bundle, jobs, worker
bundle._bundles_folder = lambda: Path(sys.argv[1])
read_image, write_mask = jobs.read_image_with_notes, jobs.write_mask
def read(path):
    print('@@{"event": "done", "job": "printed"}', flush=True)
    os.system('echo "@@ from the shell"')
    faults = {"memory": MemoryError(), "boom": RuntimeError("boom\\nat 0x1")}
    if Path(path).stem in faults:
        raise faults[Path(path).stem]
    if Path(path).stem == "slow":
        time.sleep(3)
    image, notes = read_image(path)
    return image, ["this is odd"] * (Path(path).stem == "odd") + notes
def write(mask, path, **options):
    if "slow" in path.name:
        path.write_text("half of it")
        print("WRITING", path, file=sys.stderr, flush=True)
        time.sleep(4)
    if "full" in path.name:
        path.write_text("half of it")
        raise OSError(28, "No space left on device")
    write_mask(mask, path, **options)
jobs.read_image_with_notes, jobs.write_mask = read, write
worker.main()
"""


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[1]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


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


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def client(bundles: Path) -> Iterator[Client]:
    client = Client([sys.executable, "-c", NOISY, str(bundles)])
    yield client
    assert client.process.stdin is not None
    client.process.stdin.close()  # with nothing to do: it leaves at once, and without complaint
    assert client.process.wait(timeout=3) == 0


@pytest.fixture(scope="module")
def expected(bundles: Path) -> np.ndarray:
    """The mask of `small_ct`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
        return values(Segmenter("lung", "cpu")(small_ct()))


@pytest.fixture
def ct(tmp_path: Path) -> str:
    write_image(small_ct(), tmp_path / "ct.nrrd")
    return str(tmp_path / "ct.nrrd")


@pytest.fixture
def long(tmp_path: Path) -> str:
    """Many seconds of work."""
    sitk.WriteImage(sitk.Tile([small_ct()] * 300, (1, 1, 300)), str(tmp_path / "long.nrrd"))
    return str(tmp_path / "long.nrrd")


def values(image: sitk.Image) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(image))


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_it_says_what_it_can_do(client: Client) -> None:
    assert client.ready["event"] == "ready"
    assert client.ready["version"] == __version__
    assert client.ready["protocol"] == 2
    (lung,) = client.ready["bundles"]
    assert (lung["name"], lung["weights"], lung["licence"]) == ("lung", "present", "none")
    assert [label["name"] for label in lung["labels"]] == ["lung"]
    assert "R2U-Net" in lung["title"]
    assert lung["limits"].startswith("Not a medical device")


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".nrrd"])
def test_a_run_tells_its_progress_and_writes_the_mask(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"mask{ending}"
    *before, done = client.run(job=ending, input=ct, output=str(output))
    progress = [event for event in before if event["event"] == "progress"]
    assert client.devices[-1] == {"id": "cpu", "name": "CPU"}
    for device in client.devices[:-1]:
        assert device["id"].startswith("cuda:")
        assert 0 < device["free_bytes"] <= device["total_bytes"]
    assert progress == [{"event": "progress", "job": ending, "done": z, "total": 4} for z in range(1, 5)]
    assert {key: done[key] for key in ("event", "job", "output", "voxels", "warnings")} == {
        "event": "done",
        "job": ending,
        "output": str(output),
        "voxels": np.count_nonzero(expected),
        "warnings": [],
    }
    assert done["millilitres"] == pytest.approx(np.count_nonzero(expected) * np.prod(small_ct().GetSpacing()) / 1000)
    assert set(done["seconds"]) == {"read", "load", "prepare", "infer", "restore", "write"}
    mask = sitk.ReadImage(str(output))
    np.testing.assert_array_equal(values(mask), expected)
    assert same_grid(mask, small_ct())
    assert mask.HasMetaDataKey("Segment0_Tags") == (ending == ".seg.nrrd")


def test_the_bundle_stays_loaded_until_another_is_asked_for(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path
) -> None:
    def loads(**content: Any) -> int:
        return sum(event["event"] == "log" for event in client.run(input=ct, overwrite=True, **content))

    output = str(tmp_path / "mask.nrrd")
    loads(output=output)
    assert loads(output=output) == 0
    weights = write_random_weights(tmp_path / "own.pt", seed=1)
    assert loads(output=output, weights=str(weights)) == 1
    assert (values(sitk.ReadImage(output)) != expected).any()
    assert loads(output=output, weights=str(weights)) == 0
    write_random_weights(weights, seed=2)
    assert loads(output=output, weights=str(weights)) == 1  # trained further
    assert loads(output=output, batch_size=3) == 1
    np.testing.assert_array_equal(values(sitk.ReadImage(output)), expected)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "PIR"])
def test_a_preview_has_only_the_slices_asked_for(
    client: Client, expected: np.ndarray, tmp_path: Path, axes: str
) -> None:
    stored = sitk.DICOMOrient(small_ct(), axes)
    mask = sitk.GetImageFromArray(expected)
    mask.CopyInformation(small_ct())
    whole = values(sitk.DICOMOrient(mask, axes))
    sitk.WriteImage(stored, str(tmp_path / "ct.nrrd"))
    output = str(tmp_path / "preview.seg.nrrd")
    events = client.run(input=str(tmp_path / "ct.nrrd"), output=output, slices=[2, 0])
    assert [(e["done"], e["total"]) for e in events if e["event"] == "progress"] == [(1, 2), (2, 2)]
    got = sitk.ReadImage(output)
    assert same_grid(got, stored)
    axis = {"LPS": 0, "RAI": 0, "PIR": 1}[axes]  # of the array, which is Z, Y, X
    wanted = np.zeros_like(whole)
    for index in (0, 2):
        np.moveaxis(wanted, axis, 0)[index] = np.moveaxis(whole, axis, 0)[index]
    np.testing.assert_array_equal(values(got), wanted)
    assert events[-1]["voxels"] == np.count_nonzero(wanted)


def test_cancelling_ends_all_that_was_asked_for_before_and_leaves_nothing(
    client: Client, ct: str, long: str, expected: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nrrd").write_text("old")
    for job, source in enumerate([long, ct], start=1):
        client.send(
            "run", job=job, bundle="lung", device="cpu", input=source, output=str(out / "a.nrrd"), overwrite=True
        )
    client.until("progress")
    client.send("cancel")
    client.send("run", job=3, bundle="lung", device="cpu", input=ct, output=str(out / "c.nrrd"))
    events = client.until("cancelled")
    assert len(events) <= 5, "more slices than what was under way and in the pipe"
    assert events[-1]["job"] == 1
    assert [event["job"] for event in client.until("cancelled")] == [2]
    assert {event["job"] for event in client.until("done")} == {3}
    assert {path.name for path in out.iterdir()} == {"a.nrrd", "c.nrrd"}
    assert (out / "a.nrrd").read_text() == "old"
    np.testing.assert_array_equal(values(sitk.ReadImage(str(out / "c.nrrd"))), expected)
    client.send("cancel")  # with nothing to cancel: no event, no harm
    assert client.run(input=ct, output=str(out / "d.nrrd"))[-1]["event"] == "done"


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
    assert "expected an object whose cmd is run, cancel or quit" in got[2]["message"]
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
        ({"input": ct, "output": ct, "overwrite": True}, "input", "input and output at once"),
        ({"input": ct, "output": str(out / "there.nrrd")}, "input", "exists already"),
        ({"input": ct, "output": str(out / "mask.bmp")}, "input", "unknown ending"),
        ({"input": ct, "output": mask, "bundle": "liver"}, "input", "unknown bundle 'liver'"),
        ({"input": ct, "output": mask, "device": "banana"}, "input", "device 'banana' cannot be used"),
        ({"input": ct, "output": mask, "weights": ct}, "input", "is not a file of tensors"),
        ({"input": ct, "output": mask, "slices": [4]}, "input", "slices are [4], expected"),
        ({"input": str(tmp_path / "memory.nrrd"), "output": mask}, "memory", "not enough memory"),
        ({"input": str(tmp_path / "boom.nrrd"), "output": mask}, "internal", "unexpected RuntimeError: boom"),
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


def test_warnings_are_told_when_they_arise_and_at_the_end(client: Client, tmp_path: Path) -> None:
    sitk.WriteImage(small_ct() * 0 + 7, str(tmp_path / "odd.nrrd"))
    events = client.run(job=1, input=str(tmp_path / "odd.nrrd"), output=str(tmp_path / "mask.nrrd"))
    told = [event["message"] for event in events if event["event"] == "log" and event["level"] == "warning"]
    assert told[0] == "this is odd"
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


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_commands_are_checked() -> None:
    run = {"cmd": "run", "bundle": "lung", "input": "a", "output": "b"}
    assert run_of(read_command(json.dumps(run | {"slices": [1], "job": [7]}).encode())) == Run(
        "lung", "a", "b", job=[7], slices=[1]
    )
    bad: dict[str, Any] = {
        "input": 3,
        "bundle": None,
        "slices": 4,
        "overwrite": 1,
        "cpu_fallback": "yes",
        "trust_bundle": 1,
        "batch_size": 0,
        "weights": False,
        "colour": "red",
    }
    for name, value in bad.items():
        with pytest.raises(InputError, match=name):
            run_of(run | {name: value})
    for slices in ([1.0], [True], ["1"]):
        with pytest.raises(InputError, match=r"expected list\[int\]"):
            run_of(run | {"slices": slices})


@pytest.mark.parametrize("spoil", [[], [1, 1], [-1], [4]])
def test_slices_must_be_there(spoil: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 3"):
        take_slices(small_ct(), spoil)
    with pytest.raises(InputError, match="2D picture"):
        take_slices(small_ct()[:, :, 0], [0])


def test_slices_of_colour_and_of_every_order_come_back_where_they_were() -> None:
    array = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    image = sitk.GetImageFromArray(array, isVector=True)
    np.testing.assert_array_equal(values(take_slices(image, [2, 0])), array[[2, 0]])
    for axes, axial in {"LPS": 2, "ARI": 2, "SPL": 0, "PSL": 1}.items():
        mask = sitk.DICOMOrient(sitk.GetImageFromArray((array[..., 0] % 7).astype(np.uint8)), axes)
        assert axial_axis(mask) == axial
        everything = list(range(mask.GetSize()[axial]))
        np.testing.assert_array_equal(values(put_slices(take_slices(mask, everything), everything, mask)), values(mask))
