"""Killed processes, full disks, vanishing folders: the old output or a complete new one, and one sentence.

Real processes: one that has everything imported forks a child for each case, so that none waits seconds for imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import ABANDONED
from monai_r2unet.images.masks import write_mask
from tests.helpers.lung_examples import copy_bundle, small_ct

FORKS = r"""
import json, os, resource, shutil, signal, sys, time, traceback
from pathlib import Path
import SimpleITK as sitk
from monai_r2unet.apps.cli.main import main
from monai_r2unet.inference import cohort, reports, segmenter
from monai_r2unet.apps.worker import runner
from monai_r2unet.images import masks
from monai_r2unet import worker
from monai_r2unet.bundle import Bundle

def write_for_ever(first, second, output, bundle):
    alternating = [sitk.ReadImage(first), sitk.ReadImage(second)]
    while True:
        for mask in alternating:
            masks.write_mask(mask, output, bundle=Bundle(Path(bundle)), source=first, overwrite=True)

def folder_gone_after_segmenting(folder, *arguments):
    run = segmenter.Segmenter.run
    def run_and_remove(*some, **more):
        result = run(*some, **more)
        shutil.rmtree(folder)
        return result
    segmenter.Segmenter.run = run_and_remove
    return main(arguments)

WHAT = {"command line": lambda *a: main(a), "write": write_for_ever, "vanish": folder_gone_after_segmenting,
        "worker": lambda: worker.main()}
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    (stdin, commands), (result, printed) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(stdin, 0), os.dup2(printed, 1), os.dup2(printed, 2)
        for pipe in (stdin, commands, result, printed):
            os.close(pipe)
        os.chdir(request["folder"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
        code = 99
        try:
            if request["user"]:
                os.setuid(request["user"])
            code = WHAT[request["what"]](*request["arguments"])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    os.close(stdin), os.close(printed)
    os.write(commands, request["commands"].encode())
    if request["kill_after"] is not None:
        time.sleep(request["kill_after"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(result, errors="replace") as file:
        text = file.read()
    os.close(commands)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text]), flush=True)
os._exit(0)
"""

if not hasattr(os, "fork"):
    pytest.skip("these tests fork processes, which this system cannot", allow_module_level=True)


class Forks:
    """Runs a command in a separate process."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, what: str, folder: Path, *arguments: object, **faults: Any) -> tuple[int, str]:
        """Exit code (-9: killed) and output."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"file_size": -1, "user": 0, "kill_after": None, "commands": "", **faults}
        request |= {"what": what, "folder": str(folder), "arguments": [str(argument) for argument in arguments]}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code, text = json.loads(self.process.stdout.readline())
        return code, text


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    assert forks.process.stdin is not None
    forks.process.stdin.close()
    assert forks.process.wait(timeout=10) == 0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is not shipped."""
    return copy_bundle(tmp_path_factory.mktemp("bundles")) / "lung"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    sitk.WriteImage(small_ct(), str(tmp_path / "ct.nrrd"))
    return tmp_path


def values(path: Path) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".seg.nrrd", ".mha"])
def test_killed_while_it_writes_the_old_mask_or_the_new_one_is_there(
    forks: Forks, bundle: Path, work: Path, ending: str
) -> None:
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        sitk.WriteImage(
            sitk.GetImageFromArray(rng.integers(0, 2, (12, 256, 256), np.uint8)), str(work / f"{name}.nrrd")
        )
    known = [values(work / "first.nrrd"), values(work / "second.nrrd")]
    output = work / f"mask{ending}"
    write_mask(
        sitk.ReadImage(str(work / "first.nrrd")), output, bundle=find_bundle(bundle, trusted=True), source="ct.nrrd"
    )
    delays = random.Random(ending)
    left = 0
    for _ in range(6):
        arguments = ["first.nrrd", "second.nrrd", output, bundle]
        code, text = forks("write", work, *arguments, kill_after=0.05 + 0.2 * delays.random())
        assert (code, text) == (-9, "")
        assert any(np.array_equal(values(output), one) for one in known)
        assert visible(work) == sorted(["ct.nrrd", "first.nrrd", "second.nrrd", output.name])
        left += len(list(work.glob(".*")))
    assert left > 0, "never killed in the middle"
    for path in work.glob(".*"):  # what was left disappears once nobody can be writing it any more
        os.utime(path, (time.time() - ABANDONED - 1,) * 2)
    write_mask(
        sitk.ReadImage(str(work / "first.nrrd")),
        output,
        bundle=find_bundle(bundle, trusted=True),
        source="ct.nrrd",
        overwrite=True,
    )
    assert not list(work.glob(".*"))


def test_a_folder_of_cases_is_completed_after_it_was_killed_again_and_again(
    forks: Forks, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "cases").mkdir()
    for name in "abcdef":
        sitk.WriteImage(small_ct(slices=3), str(tmp_path / "cases" / f"{name}.nrrd"))
    expected = sitk.GetArrayFromImage(Segmenter(bundle, "cpu", trust_bundle=True)(small_ct(slices=3)))
    arguments = ["segment", "cases", "out", "--bundle", bundle, "--trust-bundle", "--device", "cpu"]
    delays = random.Random(0)
    for _ in range(6):
        code, text = forks("command line", tmp_path, *arguments, kill_after=0.2 + delays.random())
        assert code in (0, -9), text
        for mask in (tmp_path / "out").glob("[!.]*.nii.gz"):
            np.testing.assert_array_equal(values(mask), expected)
    code, text = forks("command line", tmp_path, *arguments)
    assert code == 0, text
    assert visible(tmp_path / "out") == [*(f"{name}.nii.gz" for name in "abcdef"), "summary.csv"]
    rows = (tmp_path / "out" / "summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == list("abcdef")
    assert {row.split(",")[2] for row in rows} == {str(np.count_nonzero(expected))}


def test_a_killed_worker_leaves_the_old_mask_or_the_new_one(forks: Forks, bundle: Path, work: Path) -> None:
    output = work / "mask.nii.gz"
    expected = sitk.GetArrayFromImage(Segmenter(bundle, "cpu", trust_bundle=True)(small_ct()))
    old = sitk.GetImageFromArray(1 - expected)
    run = {"cmd": "run", "bundle": str(bundle), "trust_bundle": True, "device": "cpu", "overwrite": True}
    command = json.dumps({**run, "input": "ct.nrrd", "output": "mask.nii.gz"}) + "\n"
    sitk.WriteImage(old, str(output))
    delays = random.Random(1)
    for _ in range(6):
        code, text = forks("worker", work, commands=command, kill_after=0.1 + 0.8 * delays.random())
        assert code == -9, text
        written = values(output)
        assert np.array_equal(written, expected) or np.array_equal(written, 1 - expected)
        assert ('"event": "done"' not in text) or np.array_equal(written, expected)
        assert visible(work) == ["ct.nrrd", "mask.nii.gz"]


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"])
def test_a_full_disk_is_one_sentence_and_the_old_mask_stays(
    forks: Forks, bundle: Path, work: Path, ending: str
) -> None:
    output = work / f"mask{ending}"
    for old in (None, b"old"):
        if old:
            output.write_bytes(old)
        arguments = ["segment", "ct.nrrd", output.name, "--bundle", bundle, "--trust-bundle", "--overwrite"]
        code, text = forks("command line", work, *arguments, file_size=100)
        assert code == 1, text
        assert "Traceback" not in text
        told = [line for line in text.splitlines() if line.startswith("error: ")]  # MetaIO and NIfTI print of their own
        assert len(told) == 1, text
        assert re.fullmatch(
            rf"error: mask{re.escape(ending)} could not be written \(.+\): is the disk full, .+", told[0]
        )
        assert (output.read_bytes() if output.exists() else None) == old
        assert not list(work.glob(".*"))


def test_a_full_disk_ends_a_folder_of_cases_in_one_sentence(forks: Forks, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    sitk.WriteImage(small_ct(slices=1), str(tmp_path / "cases" / "a.nrrd"))
    arguments = ["segment", "cases", "out", "--bundle", bundle, "--trust-bundle"]
    code, text = forks("command line", tmp_path, *arguments, file_size=100)
    assert code == 3  # the next case may find room
    assert re.search(r"failed: a: .+ could not be written \(.+\): is the disk full, ", text), text
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {".cases", "summary.csv"}
    assert forks("command line", tmp_path, *arguments)[0] == 0


def test_a_folder_that_goes_away_is_one_sentence(forks: Forks, bundle: Path, work: Path) -> None:
    (work / "out").mkdir()
    shutil.copytree(bundle, work / "lung")
    for source, output in (("ct.nrrd", "out/mask.nii.gz"), ("cases", "out")):
        if source == "cases":
            (work / source).mkdir()
            shutil.copy(work / "ct.nrrd", work / source / "a.nrrd")
        (work / "out").mkdir(exist_ok=True)
        arguments = ["out", "segment", source, output, "--bundle", bundle, "--trust-bundle"]
        code, text = forks("vanish", work, *arguments)
        assert code in (1, 2), text
        assert re.fullmatch(r"error: .*out.* (cannot|could not) be written.*\n", text)
        assert not (work / "out").exists()


def test_a_folder_that_is_read_only_is_refused_before_any_work(forks: Forks) -> None:
    nobody = 65534 if os.geteuid() == 0 else 0  # root may write anywhere
    with contextlib.ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="read-only-"))  # pytest's own folders are for one user only
        stack.callback(shutil.rmtree, work)
        work.chmod(0o755)
        sitk.WriteImage(small_ct(), str(work / "ct.nrrd"))
        (work / "cases").mkdir()
        (work / "out").mkdir()
        (work / "out" / "mask.nii.gz").write_bytes(b"old")
        for folder in (work / "out", work / "cases"):
            folder.chmod(0o555)
            stack.callback(folder.chmod, 0o755)
        (work / "ct.nrrd").chmod(0o644)
        for source, output in (("ct.nrrd", "out/mask.nii.gz"), ("ct.nrrd", "out/new.nrrd")):
            arguments = ["segment", source, output, "--bundle", "lung", "--overwrite"]
            code, text = forks("command line", work, *arguments, user=nobody)
            if "os.setuid" in text:
                pytest.skip("root may write anywhere, and cannot become another user here")
            assert (code, text.count("\n")) == (2, 1), text
            assert text.startswith("error: the folder out is not writable: choose another one")
        assert visible(work / "out") == ["mask.nii.gz"]
        assert (work / "out" / "mask.nii.gz").read_bytes() == b"old"
