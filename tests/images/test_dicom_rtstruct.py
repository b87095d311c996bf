"""DICOM RTSTRUCT: other readers draw the same mask from its contours, and a validator finds no error."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.bundle import Bundle, find_bundle
from monai_r2unet.datasets.rtstruct import fill_polygon, referenced_series
from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_rtstruct import write_dicom_rtstruct
from monai_r2unet.images.masks import check_mask_output, write_mask
from tests.helpers.dicom_validator import validated
from tests.images.test_dicom_seg import DEPTH, FRAME, ORIENTATIONS, SERIES, STUDY, bundle, mask_of, write_series

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("contourpy")

__all__ = ["bundle"]  # the fixture


def drawn(path: Path, like: sitk.Image) -> np.ndarray:
    """The label map (Z, Y, X) that the contours enclose, by the even-odd rule, on the slices that they name."""
    labels = np.zeros(sitk.GetArrayViewFromImage(like).shape, np.uint8)
    for region in pydicom.dcmread(path).ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.reshape([float(value) for value in contour.ContourData], (-1, 3))
            index = np.array([like.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
            z = round(float(index[0, 2]))
            assert np.allclose(index[:, 2], z, atol=1e-3)
            inside = fill_polygon(index[:, 0], index[:, 1], labels.shape[1:])
            labels[z][inside] = region.ReferencedROINumber
    return labels


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_the_same_mask_comes_back(plane: str, bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ORIENTATIONS[plane])
    mask = mask_of(folder)
    write_mask(mask, tmp_path / "lungs.rtstruct.dcm", bundle=bundle, source=folder)
    np.testing.assert_array_equal(drawn(tmp_path / "lungs.rtstruct.dcm", mask), sitk.GetArrayFromImage(mask))


def test_contours_name_their_slice_and_the_set_its_study(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    write_dicom_rtstruct(mask_of(folder), bundle, folder, tmp_path / "rt.dcm")
    structures = pydicom.dcmread(tmp_path / "rt.dcm")
    assert (structures.Modality, structures.PatientID, structures.PatientName) == ("RTSTRUCT", "7", "Doe^Jane")
    assert (structures.StudyInstanceUID, structures.FrameOfReferenceUID) == (STUDY, FRAME)
    assert structures.SeriesInstanceUID != SERIES
    assert referenced_series(tmp_path / "rt.dcm") == SERIES
    assert [(roi.ROINumber, roi.ROIName) for roi in structures.StructureSetROISequence] == [
        (1, "right lung"),
        (2, "left lung"),
    ]
    right, left = structures.ROIContourSequence
    assert left.ROIDisplayColor == [51, 0, 255]
    heights = {
        header.SOPInstanceUID: header.ImagePositionPatient[2]
        for header in map(pydicom.dcmread, sorted(folder.iterdir()))
    }
    for contour in right.ContourSequence:
        assert contour.ContourData[2] == heights[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)
    (kind,) = structures.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence
    assert (kind.CodeValue, kind.CodeMeaning) == ("39607008", "Lung")


@pytest.mark.parametrize("empty", [False, True])
def test_a_validator_finds_no_error(empty: bool, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    write_dicom_rtstruct(mask_of(folder, empty), find_bundle("lung"), folder, tmp_path / "rt.dcm")
    said, errors = validated(tmp_path / "rt.dcm")
    assert "RTStructureSet" in said  # the kind of object it recognised
    assert errors == []
    regions = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence
    assert all(("ContourSequence" in region) == (not empty) for region in regions)


def test_plastimatch_draws_the_same_mask(bundle: Bundle, tmp_path: Path) -> None:
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed (apt-get install plastimatch)")
    folder = write_series(tmp_path / "ct")
    mask = mask_of(folder)
    write_dicom_rtstruct(mask, bundle, folder, tmp_path / "rt.dcm")
    subprocess.run(
        [
            *("plastimatch", "convert", "--input", str(tmp_path / "rt.dcm"), "--referenced-ct", str(folder)),
            *("--output-prefix", str(tmp_path / "masks"), "--prefix-format", "nrrd"),
        ],
        check=True,
        capture_output=True,
    )
    for value, name in ((1, "right lung"), (2, "left lung")):
        found = sitk.ReadImage(str(tmp_path / "masks" / f"{name}.nrrd"))
        assert np.allclose(found.GetOrigin(), mask.GetOrigin(), atol=1e-3)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found) > 0, sitk.GetArrayFromImage(mask) == value)


def test_what_cannot_be_written_is_refused_and_nothing_is_left(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    output = tmp_path / "lungs.rtstruct.dcm"
    with pytest.raises(InputError, match="is not DICOM"):
        check_mask_output(output, tmp_path / "ct.nii.gz", overwrite=False)
    with pytest.raises(InputError, match=f"is not that of the {DEPTH} DICOM slices"):
        write_dicom_rtstruct(mask_of(folder)[:, :, :4], bundle, folder, output)
    mask = mask_of(folder)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.FrameOfReferenceUID = ""
        header.save_as(path)
    with pytest.raises(InputError, match="lacks FrameOfReferenceUID, which a structure set must repeat"):
        write_dicom_rtstruct(mask, bundle, folder, output)
    assert not output.exists()


def test_what_a_structure_set_needs_is_not_what_a_segmentation_needs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_series(tmp_path / "ct")
    output = tmp_path / "lungs.rtstruct.dcm"
    with pytest.raises(InputError, match=r"would be DICOM RTSTRUCT, which refers to the DICOM slices .+ is not DICOM"):
        check_mask_output(output, tmp_path / "ct.nii.gz", overwrite=False)
    find = importlib.util.find_spec
    missing = ["highdicom"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in missing else find(name, *more))
    with pytest.raises(InputError, match=r"writing DICOM SEG needs highdicom: run pip install"):
        check_mask_output(tmp_path / "lungs.dcm", folder, overwrite=False)
    check_mask_output(output, folder, overwrite=False)
    write_mask(mask_of(folder), output, bundle=bundle, source=folder)
    missing += ["contourpy", "pydicom"]
    with pytest.raises(InputError, match=r"writing DICOM RTSTRUCT needs pydicom and contourpy: run pip install"):
        check_mask_output(output, folder, overwrite=True)
