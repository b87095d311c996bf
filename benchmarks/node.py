"""Load and memory of the DICOM node: series a minute from storescu to an archive, and memory over many small series.

    python -m benchmarks.node [--series 5] [--small 200] [--results FILE]

The series are copies of LCTSC 007 (512x512x131) with UIDs of their own, the small ones its four middle slices. dcmtk's
storescu sends them and its storescp stands for the archive; both are Debian's. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from benchmarks import measure, volumes
from benchmarks.records import RESULTS
from monai_r2unet.files import write_json

SMALL = 4  # slices of a small series
SAMPLES = 10  # of memory
WORKER = "monai_r2unet.worker"


class Node:
    """A node with the bundle ``lung`` between storescu and storescp, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, archive = folder, _free_port(), _free_port()
        (folder / "archive").mkdir()
        settings = {
            "ae_title": "NODE",
            "host": "127.0.0.1",
            "port": self.port,
            "spool": str(folder / "spool"),
            "senders": [{"ae_title": "STORESCU", "address": "127.0.0.1"}],
            "archive": {"ae_title": "STORESCP", "address": "127.0.0.1", "port": archive},
            "rules": [{"modality": "CT", "bundle": "lung"}],
            "device": "cpu",
            "seconds": {"after_release": 1},
            "page": {"port": 0},
        }
        (folder / "node.json").write_text(json.dumps(settings), encoding="utf-8")
        receive = ["storescp", "--output-directory", str(folder / "archive"), str(archive)]
        self.archive = subprocess.Popen(receive, stderr=subprocess.DEVNULL)
        command = [sys.executable, "-m", "monai_r2unet", "dicom-node", str(folder / "node.json")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        self.process.stdout.readline()  # it receives now

    def send(self, series: Path) -> None:
        """Send a series as a scanner does."""
        arguments = ["+sd", "-aec", "NODE", "127.0.0.1", str(self.port), str(series)]
        subprocess.run(["storescu", *arguments], check=True)

    def wait_for(self, count: int) -> None:
        """Wait until so many results are in the archive, and recorded."""
        while len(list((self.folder / "spool" / "records").glob("*.json"))) < count:
            if self.process.poll() is not None:
                raise RuntimeError("the node has ended")
            time.sleep(0.05)

    def check(self, count: int) -> None:
        """Check that the archive has a result for each series, and nothing failed."""
        records = [json.loads(path.read_text()) for path in (self.folder / "spool" / "records").glob("*.json")]
        states = [record["state"] for record in records]
        stored = len(list((self.folder / "archive").iterdir()))
        if states != ["sent"] * count or stored != count:
            raise RuntimeError(f"{count} series were sent, {stored} results stored, and their states are {states}")

    def resident(self) -> dict[str, int]:
        """Resident memory in bytes of the node and of its worker."""
        found = {"node": _resident(self.process.pid)}
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for child in task.read_text().split():
                if WORKER in Path(f"/proc/{child}/cmdline").read_text():
                    found["worker"] = _resident(int(child))
        return found

    def end(self) -> None:
        """End the node and the archive."""
        for process in (self.process, self.archive):
            process.terminate()
            process.wait()


def measure_load(slices: Sequence[Path], count: int) -> dict[str, Any]:
    """Send complete series, one after the other; the first one warms up and is not counted."""
    with _node() as (node, folder):
        series = [copied(slices, folder / f"{number}") for number in range(count + 1)]
        node.send(series[0])
        node.wait_for(1)
        started = time.perf_counter()
        for one in series[1:]:
            node.send(one)
        sent = time.perf_counter() - started
        node.wait_for(count + 1)
        seconds = time.perf_counter() - started
        node.check(count + 1)
    return {"series": count, "slices": len(slices), "seconds_to_send": round(sent, 2), "seconds": round(seconds, 2)}


def measure_memory(slices: Sequence[Path], count: int) -> dict[str, Any]:
    """Memory of both processes after each tenth of many small series."""
    middle = len(slices) // 2 - SMALL // 2
    resident: dict[str, list[int]] = {"node": [], "worker": []}
    with _node() as (node, folder):
        started = time.perf_counter()
        for number in range(1, count + 1):
            node.send(copied(slices[middle : middle + SMALL], folder / f"{number}"))
            node.wait_for(number)
            if number % (count // SAMPLES) == 0:
                for name, size in node.resident().items():
                    resident[name].append(size)
        seconds = time.perf_counter() - started
        node.check(count)
    return {"series": count, "slices": SMALL, "seconds": round(seconds, 2), "resident_bytes": resident}


def copied(slices: Sequence[Path], folder: Path) -> Path:
    """A copy of a series as another one of another study."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number, path in enumerate(slices):
        data = pydicom.dcmread(path)
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.save_as(folder / f"{number:03d}.dcm")
    return folder


def in_order(folder: Path) -> list[Path]:
    """The slices of a series, from the feet up."""
    tags = ["ImagePositionPatient"]
    return sorted(
        folder.glob("*.dcm"),
        key=lambda path: float(pydicom.dcmread(path, specific_tags=tags).ImagePositionPatient[2]),
    )


@contextlib.contextmanager
def _node() -> Iterator[tuple[Node, Path]]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "node").mkdir()
        node = Node(Path(name) / "node")
        try:
            yield node, Path(name)
        finally:
            node.end()


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description="Measure the load and the memory of the DICOM node.")
    parser.add_argument("--series", type=int, default=5, help="complete series to send")
    parser.add_argument("--small", type=int, default=200, help="small series to send")
    parser.add_argument("--results", type=Path, default=RESULTS / "dicom_node.json", help="file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        slices = in_order(volumes.series(Path(name), tiny=False)[0])
    result = {
        "command": f"python -m benchmarks.node --series {options.series} --small {options.small}",
        **measure.machine(),
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "load": measure_load(slices, options.series),
        "memory": measure_memory(slices, options.small),
    }
    write_json(result, options.results)


if __name__ == "__main__":
    main()
