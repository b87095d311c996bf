"""A DICOM series in Orthanc, reached by DICOMweb."""

from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from label_server.checks import check_studies
from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from tests.helpers.dicom_programs import PLUGIN, running_orthanc, series_uid, write_ct_series

SERIES = series_uid(1)
KEY = "uncertainty_lung"
LABEL_INFO = [{"name": "right lung", "idx": 1}, {"name": "left lung", "idx": 2}]


@pytest.fixture(scope="module")
def series(tmp_path_factory, repository):
    """The folder of a DICOM series: three slices through the middle of the lungs, and one of air, which is skipped."""
    image = sitk.ReadImage(str(repository / "bundles/lung/sample/images/LCTSC_008.nii.gz"))[:, :, 5:12:2]
    image[:, :, 3] = sitk.Image(image.GetSize()[:2], image.GetPixelID()) - 1000
    return write_ct_series(tmp_path_factory.mktemp("series") / "ct", image)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory, series):
    """An Orthanc with DICOMweb that holds the series."""
    web = {"DicomServerEnabled": False, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), [PLUGIN], **web) as archive:
        for path in sorted(series.iterdir()):
            archive.add(path)
        yield archive


def test_an_address_beside_the_archive_is_told_apart(orthanc):
    check_studies(f"{orthanc.url}/dicom-web")
    for address in (orthanc.url, f"{orthanc.url}/dicomweb"):
        with pytest.raises(InputError, match=r"with status 40.: .*Orthanc's ends in /dicom-web"):
            check_studies(address)


def test_a_labelling_session(serve, orthanc, series, segment, tmp_path):
    archive = f"{orthanc.url}/dicom-web"
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

    (segmentation,) = orthanc.instances("SEG")
    items, labels = segmentation.SegmentSequence, find_bundle("lung").labels
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
