"""The DICOM node as a process, between dcmtk's storescu and Orthanc: killed, cut off, and with a full disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from tests.apps.node.node_process import Node, settings_of
from tests.helpers.arrays import values
from tests.helpers.dicom_programs import PATIENT, running_orthanc, series_uid, storescu, write_ct_series
from tests.helpers.lung_examples import copy_bundle, small_ct

pytest.importorskip("pynetdicom", reason='pynetdicom is not installed: pip install "monai-r2unet[node]"')

import highdicom as hd
import pydicom

SERIES = 20
TWICE = 5
CUT_OFF = 9  # the series in whose middle the sender is killed
LONG = 48  # slices of that one; the others have two


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundles")) / "lung"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of the series 1 to 20; a list that counts from 0 has an empty place first."""
    folder, ct = tmp_path_factory.mktemp("series"), small_ct(slices=2)
    long = sitk.Tile([ct] * (LONG // 2), (1, 1, LONG // 2))
    long.SetSpacing(ct.GetSpacing())
    images = {number: long if number == CUT_OFF else ct for number in range(1, SERIES + 1)}
    return [Path(), *(write_ct_series(folder / f"{number}", image, number) for number, image in images.items())]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here, which takes root: no test with a full disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def states(node: Node) -> list[str]:
    return [one["state"] for one in node.state()["under_way"]]


def test_nothing_is_lost_and_nothing_done_twice(series: list[Path], bundle: Path, tmp_path: Path) -> None:
    """20 series, five of them twice, one cut off in the middle, a stranger, and the node killed twice."""
    with running_orthanc(tmp_path / "orthanc") as archive:
        node = Node(tmp_path, settings_of(tmp_path, bundle, archive.dicom_port))
        node.start()
        assert node.send(series[1], calling="STRANGER") != 0
        assert node.send(series[1], called="OTHER") != 0
        assert list(node.spool.glob("*/*/slices")) == []

        cut = subprocess.Popen(storescu(node.port, series[CUT_OFF]))
        node.until(lambda: len(list(node.spool.glob("incoming/*/slices/*"))) >= 3, every=0.001)
        cut.kill()
        assert cut.wait() != 0
        node.until(lambda: states(node) == ["cut off"])
        assert 3 <= node.state()["under_way"][0]["slices"] < LONG
        assert node.send(*series[1:CUT_OFF], *series[1 : 1 + TWICE]) == 0

        node.until(lambda: len(node.records()) >= 2 and "segmenting" in states(node))
        node.kill()
        node.start()
        assert "cut off" in states(node), "what was cut off waits for its rest, however often the node starts"

        received = len(list(node.spool.glob("incoming/*/slices/*")))
        sending = subprocess.Popen(storescu(node.port, *series[CUT_OFF + 1 :]), stderr=subprocess.DEVNULL)
        node.until(lambda: len(list(node.spool.glob("incoming/*/slices/*"))) >= received + 3, every=0.001)
        node.kill()
        assert sending.wait() != 0, "the sender knows that it was not done"
        node.start()
        assert node.send(*series[CUT_OFF:]) == 0
        node.until(lambda: len(node.records()) == SERIES and not node.state()["under_way"])
        assert node.send(*series[1 : 1 + TWICE]) == 0
        node.until(lambda: node.log.read_text().count("sent again, and known already") == TWICE)
        node.kill(signal.SIGTERM)

        found = archive.instances("SEG")
    assert {record["state"] for record in node.records()} == {"sent"}
    of = {one.ReferencedSeriesSequence[0].SeriesInstanceUID: one for one in found}
    assert len(found) == len(of) == SERIES
    assert of.keys() == {series_uid(number) for number in range(1, SERIES + 1)}
    assert len({one.SOPInstanceUID for one in found}) == len({one.SeriesInstanceUID for one in found}) == SERIES
    assert {str(one.PatientName) for one in found} == {PATIENT}
    segmenter = Segmenter(bundle, "cpu", trust_bundle=True)
    for number in (1, CUT_OFF):
        expected = values(segmenter(series[number]))
        assert mask_of(of[series_uid(number)], len(expected)).sum() == expected.sum() > 0
    log = node.log.read_text()
    assert not re.search("sample|secret|LCTSC", log, re.IGNORECASE)
    assert "refused: 'STRANGER' at 127.0.0.1 is not on the list of senders" in log
    assert "Traceback" not in log


def mask_of(segmentation: pydicom.Dataset, depth: int) -> np.ndarray:
    """The frames of a DICOM SEG with one segment; empty ones are left out."""
    frames = hd.seg.Segmentation.from_dataset(segmentation).pixel_array
    frames = frames.reshape((-1, *frames.shape[-2:]))
    assert len(frames) <= depth
    return frames


def test_a_full_disk_and_a_lost_worker_are_survived(
    series: list[Path], bundle: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Full while it receives, and while it segments; it goes on when there is room. The results are structure sets."""
    rules = [{"modality": "CT", "slices": [2, 9], "bundle": str(bundle), "trust_bundle": True, "output": "rtstruct"}]
    ballast = small_disk / "ballast"
    with running_orthanc(tmp_path / "orthanc") as archive:
        changes = {"rules": rules, "spool": str(small_disk / "spool"), "limits": {"free_gb": 0.0}}
        node = Node(tmp_path, settings_of(tmp_path, bundle, archive.dicom_port, **changes))
        node.start()
        fill(ballast, but=20_000)
        assert node.send(series[1], series[2]) != 0
        assert "a slice is refused: the disk: No space left on device" in node.log.read_text()
        time.sleep(2)  # more than after_release
        assert not node.records()
        assert not list(node.spool.glob("waiting/*"))
        ballast.unlink()
        assert node.send(series[1], series[2]) == 0
        node.until(lambda: len(node.records()) == 2)

        for worker in children(node):
            os.kill(worker, signal.SIGSTOP)  # so that the disk is full before it writes
        assert node.send(series[3]) == 0
        node.until(lambda: states(node) == ["segmenting"])
        fill(ballast, but=0)
        for worker in children(node):
            os.kill(worker, signal.SIGCONT)
        node.until(lambda: "No space left" in node.log.read_text().rpartition("to rtstruct of")[2])
        assert states(node) == ["waiting"]
        ballast.unlink()
        node.until(lambda: len(node.records()) == 3)

        for worker in children(node):
            os.kill(worker, signal.SIGSTOP)
        assert node.send(series[4], series[CUT_OFF]) == 0
        node.until(lambda: "segmenting" in states(node))
        for worker in children(node):
            os.kill(worker, signal.SIGKILL)
        node.until(lambda: len(node.records()) == 5)
        node.until(lambda: not node.state()["under_way"])
        node.kill()
        found = archive.instances("RTSTRUCT")
    assert "the worker process ended" in node.log.read_text()
    assert len({one.SOPInstanceUID for one in found}) == len(found) == 4
    assert sorted(record["state"] for record in node.records()) == ["ignored", *["sent"] * 4]
    assert not re.search("sample|secret|LCTSC", node.log.read_text(), re.IGNORECASE)


def fill(path: Path, but: int) -> None:
    """Fill the disk, but for some bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - but))


def children(node: Node) -> list[int]:
    """Process numbers of the node's worker."""
    assert node.process is not None
    tasks = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


def test_the_page_needs_the_token(tmp_path: Path, bundle: Path) -> None:
    node = Node(tmp_path, settings_of(tmp_path, bundle, 1))
    node.start()
    try:
        page, _, token = node.address.partition("?token=")
        assert page.startswith("http://127.0.0.1:")
        assert (node.spool / "token").stat().st_mode & 0o777 == 0o600
        for address in (page, f"{page}?token=", f"{page}status.json?token={token[:-1]}"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(address, timeout=30)
        asked = urllib.request.Request(f"{page}status.json", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
        with urllib.request.urlopen(node.address, timeout=30) as answer:
            assert "<h1>DICOM node NODE</h1>" in answer.read().decode("utf-8")

        again = Node(tmp_path, settings_of(tmp_path, bundle, 1))
        with pytest.raises(AssertionError, match=r"error: another node uses the spool .*spool: end it first"):
            again.start()
    finally:
        node.kill()
