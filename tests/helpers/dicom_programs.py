"""DICOM series as a scanner writes them, dcmtk's `storescu`, which sends them, and Orthanc, an archive."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ROOT = "1.2.826.0.1.3680043.8.498"
PATIENT = "Sample^Secret"
STARTED = 120  # seconds that a busy machine may take


def write_ct_series(folder: Path, image: sitk.Image, number: int = 1, patient: str = PATIENT) -> Path:
    """Write a volume in HU as a CT series; each ``number`` is another series of another study."""
    folder.mkdir(parents=True)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetSize()[2]):
        one = sitk.Cast(image[:, :, k : k + 1], sitk.sitkInt16)[:, :, 0]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        for tag, value in {
            "0008|0008": "DERIVED\\SECONDARY\\AXIAL",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series_uid(number)}.{k + 1}",
            "0008|0020": "20170101",
            "0008|0030": "120000",
            "0008|0060": "CT",
            "0008|103e": "Thorax 5.0",
            "0010|0010": patient,
            "0010|0020": "LCTSC_008",
            "0018|0015": "CHEST",
            "0018|0050": f"{image.GetSpacing()[2]:.6f}",
            "0020|000d": f"{ROOT}.{number}.1",
            "0020|000e": series_uid(number),
            "0020|0010": "1",
            "0020|0011": "1",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{part:.6f}" for part in position),
            "0020|0037": "\\".join(f"{part:g}" for part in direction.T[:2].ravel()),
            "0020|0052": f"{ROOT}.{number}.4",
            "0028|1052": "0",
            "0028|1053": "1",
        }.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(one)
    return folder


def series_uid(number: int) -> str:
    """The SeriesInstanceUID of a series of `write_ct_series`."""
    return f"{ROOT}.{number}.2"


def storescu(port: int, *paths: Path, calling: str = "SCANNER", called: str = "NODE") -> list[str]:
    """The command that sends files, or all files of folders."""
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("dcmtk is not installed: `apt-get install dcmtk`, then sending by C-STORE is tested too")
    return [program, "-aet", calling, "-aec", called, "+sd", "+r", "127.0.0.1", str(port), *map(str, paths)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Orthanc:
    """A running archive.

    Args:
        url: Its address.
        dicom_port: Port for C-STORE.
    """

    def __init__(self, url: str, dicom_port: int) -> None:
        self.url, self.dicom_port = url, dicom_port

    def get(self, path: str) -> bytes:
        """What it answers to a GET."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def add(self, path: Path) -> None:
        """Put a DICOM file into it."""
        urllib.request.urlopen(f"{self.url}/instances", data=path.read_bytes(), timeout=30).close()

    def instances(self, modality: str) -> list[Any]:
        """The DICOM objects of a modality."""
        import pydicom

        files = (self.get(f"/instances/{one}/file") for one in json.loads(self.get("/instances")))
        return [data for data in map(pydicom.dcmread, map(BytesIO, files)) if data.Modality == modality]


@contextlib.contextmanager
def running_orthanc(folder: Path, plugins: Sequence[Path] = (), **more: Any) -> Iterator[Orthanc]:
    """An archive of its own in a folder, to which anybody may send; skips the test where it is not installed."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None or not all(plugin.is_file() for plugin in plugins):
        pytest.skip(
            "Orthanc is not installed: `apt-get install orthanc orthanc-dicomweb`, then an archive is tested too"
        )
    folder.mkdir(parents=True, exist_ok=True)
    archive = Orthanc(f"http://127.0.0.1:{free_port()}", free_port())
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": int(archive.url.rpartition(":")[2]),
        "DicomPort": archive.dicom_port,
        "DicomAet": "ARCHIVE",
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin) for plugin in plugins],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    try:
        give_up = time.monotonic() + STARTED
        while True:
            with contextlib.suppress(OSError):
                archive.get("/system")
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=30)
