"""A DICOM series in Orthanc, reached by DICOMweb."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

import pydicom

from label_server.checks import check_studies
from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from tests.label_server.conftest import free_port, wait_for

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ROOT = "1.2.826.0.1.3680043.8.498.1"
SERIES = f"{ROOT}.2"
KEY = "uncertainty_lung"


LABEL_INFO = [{"name": "right lung", "idx": 1}, {"name": "left lung", "idx": 2}]


@pytest.fixture(scope="module")
def series(tmp_path_factory, repository):
    """The folder of a DICOM series: three slices through the middle of the lungs, and one of air, which is skipped."""
    image = sitk.ReadImage(str(repository / "bundles/lung/sample/images/LCTSC_008.nii.gz"))[:, :, 5:12:2]
    image[:, :, 3] = sitk.Image(image.GetSize()[:2], image.GetPixelID()) - 1000
    folder = tmp_path_factory.mktemp("series")
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetSize()[2]):
        one = sitk.Cast(image[:, :, k : k + 1], sitk.sitkInt16)[:, :, 0]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        for tag, value in {
            "0008|0008": "DERIVED\\SECONDARY\\AXIAL",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{ROOT}.3.{k + 1}",
            "0008|0020": "20170101",
            "0008|0030": "120000",
            "0008|0060": "CT",
            "0010|0010": "Sample^LCTSC",
            "0010|0020": "LCTSC_008",
            "0018|0050": f"{image.GetSpacing()[2]:.6f}",
            "0020|000d": f"{ROOT}.1",
            "0020|000e": SERIES,
            "0020|0010": "1",
            "0020|0011": "1",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{part:.6f}" for part in position),
            "0020|0037": "\\".join(f"{part:g}" for part in direction.T[:2].ravel()),
            "0020|0052": f"{ROOT}.4",
            "0028|1052": "0",
            "0028|1053": "1",
        }.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(one)
    return folder


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory, series):
    """The address of an Orthanc that holds the series."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc is not installed: `apt-get install orthanc orthanc-dicomweb`, then DICOMweb is tested too")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/system", process, folder / "log")
        for path in sorted(series.glob("*.dcm")):
            assert requests.post(f"{url}/instances", data=path.read_bytes(), timeout=30).ok
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def segmentation_in(orthanc):
    """The one DICOM SEG in the archive."""
    files = [
        requests.get(f"{orthanc}/instances/{one}/file", timeout=30).content
        for one in requests.get(f"{orthanc}/instances", timeout=30).json()
    ]
    (found,) = [data for data in map(pydicom.dcmread, map(BytesIO, files)) if data.Modality == "SEG"]
    return found


def test_an_address_beside_the_archive_is_told_apart(orthanc):
    check_studies(f"{orthanc}/dicom-web")
    for address in (orthanc, f"{orthanc}/dicomweb"):
        with pytest.raises(InputError, match=r"with status 40.: .*Orthanc's ends in /dicom-web"):
            check_studies(address)


def test_a_labelling_session(serve, orthanc, series, segment, tmp_path):
    archive = f"{orthanc}/dicom-web"
    with serve(archive, tmp_path / "first") as server:
        client = server.client
        score = server.score(KEY)["scores"][SERIES]
        chosen = client.next_sample(KEY, {})
        assert (chosen["id"], chosen["uncertainty"]) == (SERIES, score)

        mask, _ = client.infer("lung", SERIES, {})
        segment(series, tmp_path / "expected.nii.gz", "--bundle", "lung")
        found, expected = sitk.ReadImage(mask), sitk.ReadImage(str(tmp_path / "expected.nii.gz"))
        lung = sitk.GetArrayFromImage(found)
        np.testing.assert_array_equal(lung, sitk.GetArrayFromImage(expected))
        assert same_grid(found, expected)
        assert lung[:-1].any(axis=(1, 2)).all()
        assert not lung[-1].any(), "the series should have an empty slice"

        client.save_label(SERIES, mask, params={"model": "lung", "label_info": LABEL_INFO})
        time.sleep(6)  # for so long MONAI Label trusts what it last heard of the archive
        assert client.next_sample(KEY, {}) == {}, "what is labelled is offered again"

    items, labels = segmentation_in(orthanc).SegmentSequence, find_bundle("lung").labels
    assert [item.SegmentLabel for item in items] == [label["name"] for label in labels]
    for item, label in zip(items, labels, strict=True):
        (kind,) = item.SegmentedPropertyTypeCodeSequence
        assert (kind.CodingSchemeDesignator, kind.CodeValue) == ("SCT", label["terminology"]["type"]["value"])

    # Another server, which knows the label from the archive alone.
    with serve(archive, tmp_path / "second") as server:
        told = server.train("lung", max_epochs=2)
        assert told.startswith("DONE"), told
        (kept,) = (tmp_path / "second" / "dicom").glob("*/labels/final/*.nrrd")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(kept))) > 0, lung > 0)
        after, _ = server.client.infer("lung", SERIES, {})
        assert (sitk.GetArrayFromImage(sitk.ReadImage(after)) != lung).any()
