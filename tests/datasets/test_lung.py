"""Preparation of lung data sets and the data list that the bundles read."""

from __future__ import annotations

import itertools
import json
import logging
import math
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImaged

from monai_r2unet.datasets import load_datalist
from monai_r2unet.datasets.lung import prepare
from monai_r2unet.datasets.rtstruct import fill_polygon
from monai_r2unet.datasets.splits import draw_split, hold_out_validation, read_split_table
from monai_r2unet.datasets.volumes import finish_pair
from monai_r2unet.errors import InputError

SPLITS = ("training", "validation", "test")

# ---- making data -----------------------------------------------------------------------------------------------------


def ct(size: tuple[int, int, int] = (7, 6, 5), seed: int = 0) -> sitk.Image:
    """Noise in the range of HU, with a geometry that differs along every axis."""
    values = np.random.default_rng(seed).integers(-1000, 1500, size[::-1]).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-20.0, 35.5, -700.25))
    return image


def mask_of(image: sitk.Image, foreground: int = 1) -> sitk.Image:
    """The voxels below -200 as a mask with the values 0 and ``foreground``."""
    mask = sitk.GetImageFromArray(np.where(array_of(image) < -200, foreground, 0).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def array_of(image: sitk.Image | Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(image)) if isinstance(image, Path) else image)


def write(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)


def write_pairs(source: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        write(ct(seed=seed), source / "images" / f"{name}.nii.gz")
        write(mask_of(ct(seed=seed)), source / "masks" / f"{name}.nrrd")


def write_luna(source: Path, folders: dict[str, str]) -> None:
    for seed, (name, folder) in enumerate(folders.items()):
        image = ct(seed=seed)
        write(image, source / folder / f"{name}.mhd")
        labels = sitk.GetImageFromArray((np.arange(7 * 6 * 5).reshape(5, 6, 7) % 6).astype(np.uint8))
        labels.CopyInformation(image)
        write(labels, source / "seg-lungs-LUNA16" / f"{name}.mhd")


def write_slice(source: Path, name: str, seed: int = 0) -> None:
    values = np.random.default_rng(seed).integers(-932, 900, (6, 8)).astype(np.int16)
    write(sitk.GetImageFromArray(values), source / "2d_images" / f"{name}.tif")
    write(sitk.GetImageFromArray((values < 0).astype(np.uint8) * 255), source / "2d_masks" / f"{name}.tif")


def write_dicom_ct(folder: Path, uid: str = "1.2.3.4", slices: int = 4, modality: str = "CT") -> np.ndarray:
    """Axial slices of 10 columns and 8 rows, 1.5 x 2 x 3 mm, the first at (-5, -7, 30); returns the HU (Z, Y, X)."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.random.default_rng(int(uid[-1])).integers(0, 2000, (slices, 8, 10)).astype("<i2")
    for k in range(slices):
        data = dicom_file(pydicom.uid.CTImageStorage)
        data.Modality, data.SeriesInstanceUID, data.InstanceNumber = modality, uid, k + 1
        data.Rows, data.Columns, data.PixelSpacing, data.SliceThickness = 8, 10, [2, 1.5], 3
        data.ImagePositionPatient, data.ImageOrientationPatient = [-5, -7, 30 + 3 * k], [1, 0, 0, 0, 1, 0]
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleSlope, data.RescaleIntercept, data.PixelData = 1, -1024, stored[k].tobytes()
        # Names in reverse order: the place of a slice must come from its header.
        data.save_as(folder / f"{slices - k}.dcm", enforce_file_format=True)
    return stored - 1024


def write_structures(
    path: Path, contours: dict[str, list[list[tuple[float, float, float]]]], uid: str | None = "1.2.3.4"
) -> None:
    """An RTSTRUCT with closed planar contours in mm, by structure."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dataset.Dataset
    path.parent.mkdir(parents=True, exist_ok=True)
    data = dicom_file(pydicom.uid.RTStructureSetStorage)
    data.Modality, data.SeriesInstanceUID = "RTSTRUCT", "1.2.3.9"
    if uid is not None:
        series, study, frame = dataset(), dataset(), dataset()
        series.SeriesInstanceUID = uid
        study.RTReferencedSeriesSequence = [series]
        frame.RTReferencedStudySequence = [study]
        data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, planes) in enumerate(contours.items(), start=1):
        structure, roi = dataset(), dataset()
        structure.ROINumber, structure.ROIName, roi.ReferencedROINumber = number, name, number
        roi.ContourSequence = []
        for points in planes:
            contour = dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [value for point in points for value in point]
            roi.ContourSequence.append(contour)
        data.StructureSetROISequence.append(structure)
        data.ROIContourSequence.append(roi)
    data.save_as(path, enforce_file_format=True)


def dicom_file(sop_class: str):  # type: ignore[no-untyped-def]
    import pydicom

    data = pydicom.dataset.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, pydicom.uid.generate_uid()
    data.StudyInstanceUID, data.PatientID = "1.2.3", "somebody"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return data


def box(x0: float, x1: float, y0: float, y1: float, slice_: float) -> list[tuple[float, float, float]]:
    """A rectangle in mm around the given columns and rows of the DICOM CT above, half a voxel beyond each."""
    x, y = (
        [-5 + 1.5 * (c + d) for c, d in ((x0, -0.5), (x1, 0.5))],
        [-7 + 2 * (r + d) for r, d in ((y0, -0.5), (y1, 0.5))],
    )
    return [(px, py, 30 + 3 * slice_) for px, py in ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))]


def cases_in(datalist: dict) -> dict[str, list[str]]:
    return {split: [Path(entry["image"]).name.removesuffix(".nii.gz") for entry in datalist[split]] for split in SPLITS}


# ---- pairs: what is written ------------------------------------------------------------------------------------------


def test_pairs_side_by_side_keep_values_and_grid(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out"
    write(ct(), source / "a_ct.nrrd")
    write(mask_of(ct(), foreground=255), source / "a_lung.mhd")
    datalist = prepare(source, dest)
    assert datalist["training"] == [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}]
    image, label = sitk.ReadImage(str(dest / "images/a.nii.gz")), sitk.ReadImage(str(dest / "labels/a.nii.gz"))
    assert (image.GetPixelID(), label.GetPixelID()) == (sitk.sitkInt16, sitk.sitkUInt8)
    np.testing.assert_array_equal(array_of(image), array_of(ct()))
    np.testing.assert_array_equal(array_of(label), array_of(ct()) < -200)
    for written in (image, label):
        assert written.GetOrigin() == pytest.approx((-20.0, 35.5, -700.25))
        assert written.GetSpacing() == pytest.approx((0.5, 0.75, 3.0))
        assert written.GetDirection() == pytest.approx(np.eye(3).ravel())
    assert json.loads((dest / "datalist.json").read_text()) == datalist
    assert sorted(path.name for path in dest.rglob("*") if path.is_file()) == ["a.nii.gz", "a.nii.gz", "datalist.json"]


def test_with_sides_the_right_lung_is_1_and_the_left_2(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out"
    hu = np.full((4, 30, 60), -1000, np.int16)
    hu[:, 3:27, 3:57] = 40
    truth = np.zeros(hu.shape, np.uint8)
    truth[:, 8:22, 8:26], truth[:, 8:22, 34:52] = 1, 2  # LPS: the patient's right is at low x
    hu[truth > 0] = -850
    image, mask = sitk.GetImageFromArray(hu), sitk.GetImageFromArray((truth > 0).astype(np.uint8))
    for volume in (image, mask):
        volume.SetSpacing((6.0, 6.0, 5.0))
    write(image, source / "a_ct.nrrd")
    write(mask, source / "a_lung.nrrd")
    datalist = prepare(source, dest, sides=True)
    assert datalist["labels"] == ["right lung", "left lung"]
    np.testing.assert_array_equal(array_of(sitk.ReadImage(str(dest / "labels/a.nii.gz"))), truth)
    assert prepare(source, dest, sides=True) == datalist
    with pytest.raises(InputError, match="have two labels, right and left lung: choose another folder"):
        prepare(source, dest)


def test_16_bit_png_becomes_one_axial_slice(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out"
    stored = np.arange(48, dtype=np.uint16).reshape(6, 8) * 40
    write(sitk.GetImageFromArray(stored), source / "images/x.png")
    write(sitk.GetImageFromArray((stored < 600).astype(np.uint8) * 255), source / "labels/x.tif")
    prepare(source, dest, rescale_intercept=-1024)
    image, label = nib.load(dest / "images/x.nii.gz"), nib.load(dest / "labels/x.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0], stored.T.astype(int) - 1024)
    np.testing.assert_array_equal(np.asarray(label.dataobj)[:, :, 0], stored.T < 600)
    # Columns run to the patient's left and rows to the back, which in NIfTI (RAS) are the negative directions.
    np.testing.assert_array_equal(image.affine, np.diag([-50, -50, 1, 1]))  # 400 mm wide
    loaded = LoadImaged(keys=["image", "label"], ensure_channel_first=True)(load_datalist(dest, "training")[0])
    assert loaded["image"].shape == loaded["label"].shape == (1, 8, 6, 1)


@settings(max_examples=20, deadline=None)
@given(axes=st.permutations(range(3)), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_any_storage_order_keeps_every_voxel_in_its_place(axes: list[int], flips: tuple[bool, bool, bool]) -> None:
    stored = sitk.Flip(sitk.PermuteAxes(ct(), axes), flips)
    mask = sitk.DICOMOrient(mask_of(ct()), "RAS")  # the mask in an order of its own
    image, label = finish_pair(stored, mask, "case")
    assert abs(image.GetDirection()[8]) == pytest.approx(1)
    assert image.GetDirection() == label.GetDirection()
    original = ct()
    for index in itertools.product(*map(range, image.GetSize())):
        place = original.TransformPhysicalPointToIndex(image.TransformIndexToPhysicalPoint(index))
        assert image[index] == original[place]
        assert label[index] == (original[place] < -200)


def test_oblique_volume_keeps_its_direction() -> None:
    tilted = ct()
    cosine, sine = np.cos(0.3), np.sin(0.3)
    tilted.SetDirection([1, 0, 0, 0, cosine, -sine, 0, sine, cosine])
    image, _ = finish_pair(tilted, mask_of(tilted), "case")
    assert image.GetDirection() == pytest.approx(tilted.GetDirection())
    np.testing.assert_array_equal(array_of(image), array_of(tilted))


def test_slices_per_case_are_evenly_spaced_over_the_volume() -> None:
    original = ct((4, 3, 10))
    image, label = finish_pair(original, mask_of(original), "case", slices=5)
    np.testing.assert_array_equal(array_of(image), array_of(original)[1::2])
    np.testing.assert_array_equal(array_of(label), array_of(original)[1::2] < -200)
    assert image.GetSpacing() == pytest.approx((0.5, 0.75, 6.0))
    assert image.GetOrigin() == pytest.approx((-20.0, 35.5, -700.25 + 1.5))
    assert finish_pair(original, mask_of(original), "case", slices=99)[0].GetSize() == (4, 3, 10)


@settings(max_examples=30, deadline=None)
@given(depth=st.integers(1, 60), kept=st.integers(1, 70))
def test_slices_per_case_keep_the_extent(depth: int, kept: int) -> None:
    original = ct((2, 2, depth))
    image, _ = finish_pair(original, mask_of(original), "case", slices=kept)
    assert image.GetDepth() == min(kept, depth)
    for end, end_of_original in ((-0.5, -0.5), (image.GetDepth() - 0.5, depth - 0.5)):
        assert image.TransformContinuousIndexToPhysicalPoint((0, 0, end)) == pytest.approx(
            original.TransformContinuousIndexToPhysicalPoint((0, 0, end_of_original))
        )
    for k, plane in enumerate(array_of(image)):
        height = original.TransformPhysicalPointToContinuousIndex(image.TransformIndexToPhysicalPoint((0, 0, k)))[2]
        near = array_of(original)[[int(np.floor(height + 1e-6)), int(np.ceil(height - 1e-6))]]
        assert any(np.array_equal(plane, candidate) for candidate in near)


def test_float_values_are_rounded_and_clipped_to_int16() -> None:
    values = np.array([[[-1000.4, -999.6], [40000.0, -40000.0]]], dtype=np.float32)
    image, _ = finish_pair(sitk.GetImageFromArray(values), sitk.Image([2, 2, 1], sitk.sitkUInt8), "case")
    assert array_of(image).tolist() == [[[-1000, -1000], [32767, -32768]]]


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (ct(), mask_of(ct((7, 6, 4))), r"sizes, \(7, 6, 5\) and \(7, 6, 4\)"),
        (ct(), sitk.Image([7, 6, 5], sitk.sitkUInt8), "differ in position"),
        (ct() + 1024, mask_of(ct()), "or add an offset to its values with rescale_intercept=-1024"),
        (sitk.GetImageFromArray(np.full((1, 2, 2), np.nan)), sitk.Image([2, 2, 1], sitk.sitkUInt8), "not numbers"),
    ],
)
def test_pairs_that_do_not_fit_are_named(image: sitk.Image, mask: sitk.Image, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        finish_pair(image, mask, "case_17")
    assert "case_17" in str(error.value)


def test_a_failing_pair_leaves_nothing_behind(tmp_path: Path) -> None:
    write(ct(), tmp_path / "in/images/a.nrrd")
    write(mask_of(ct((7, 6, 4))), tmp_path / "in/masks/a.nrrd")
    with pytest.raises(InputError, match="image and mask of a "):
        prepare(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_colour_images_are_refused(tmp_path: Path) -> None:
    write(sitk.GetImageFromArray(np.zeros((4, 4, 3), np.uint8), isVector=True), tmp_path / "in/images/a.png")
    write(sitk.GetImageFromArray(np.zeros((4, 4), np.uint8)), tmp_path / "in/masks/a.png")
    with pytest.raises(InputError, match=r"a\.png has 3 channels"):
        prepare(tmp_path / "in", tmp_path / "out")


# ---- finding the cases -----------------------------------------------------------------------------------------------


def test_missing_masks_are_counted_and_three_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", list("abcdef"))
    for name in "bcde":
        (tmp_path / "in/masks" / f"{name}.nrrd").unlink()
    with pytest.raises(InputError, match=r"4 of 6 images in .* have no mask: b, c, d and 1 more"):
        prepare(tmp_path / "in", tmp_path / "out")
    for name in "abcde":
        (tmp_path / "in/images" / f"{name}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 of 2 masks in .* have no image of the same name: a;"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_one_case_in_two_formats_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", ["a"])
    write(ct(), tmp_path / "in/images/a.mha")
    with pytest.raises(InputError, match=r"a\.mha and a\.nii\.gz .* the same case"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_two_folders_of_masks_ask_for_a_choice(tmp_path: Path) -> None:
    for name in ("images", "masks", "labels"):
        write(ct(), tmp_path / name / "a.nii.gz")
    with pytest.raises(InputError, match=r"holds both masks/ and labels/, expected one"):
        prepare(tmp_path, tmp_path / "out")


def test_unknown_layout_shows_what_was_found_and_the_four(tmp_path: Path) -> None:
    (tmp_path / "in/notes").mkdir(parents=True)
    with pytest.raises(InputError, match=r"it holds notes/;[\s\S]*luna16:[\s\S]*lctsc:[\s\S]*kaggle:[\s\S]*pairs:"):
        prepare(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match='no layout "luna"; use luna16, lctsc, kaggle, pairs'):
        prepare(tmp_path / "in", tmp_path / "out", layout="luna")
    with pytest.raises(InputError, match="there are no cases in"):
        prepare(tmp_path / "in", tmp_path / "out", layout="luna16")


def test_two_layouts_in_one_folder_ask_for_a_choice(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", ["a"])
    write_slice(tmp_path / "in", "ID_0000_Z_0001")
    with pytest.raises(InputError, match=r"kaggle and pairs: .*, or choose a layout with layout='kaggle'"):
        prepare(tmp_path / "in", tmp_path / "out")
    assert cases_in(prepare(tmp_path / "in", tmp_path / "out", layout="pairs"))["training"] == ["a"]


def test_wrong_arguments(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", ["a"])
    (tmp_path / "file").touch()
    for arguments, message in (
        ({"source": tmp_path / "none"}, "is not a folder"),
        ({"dest": tmp_path / "file"}, "is a file"),
        ({"dest": tmp_path / "in"}, "source and destination are both"),
        ({"slices_per_case": 0}, "must be 1 or more"),
        ({"rescale_intercept": math.nan}, "the rescale intercept is nan; it must be a number"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(**({"source": tmp_path / "in", "dest": tmp_path / "out"} | arguments))


def test_luna16_lungs_are_3_and_4_and_subsets_divide(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out"
    write_luna(source, {"1.1": "subset0", "1.2": "subset8", "1.3": "subset9", "1.4": "subset3/subset3"})
    (source / "subset0/1.9.mhd").touch()
    with pytest.raises(InputError, match=r"1 of 5 images .* no mask: 1\.9"):
        prepare(source, dest)
    (source / "subset0/1.9.mhd").unlink()
    (source / "seg-lungs-LUNA16/1.7.mhd").touch()  # a mask of a subset that is not there
    datalist = prepare(source, dest)
    assert cases_in(datalist) == {"training": ["1.1", "1.4"], "validation": ["1.2"], "test": ["1.3"]}
    labels = np.arange(7 * 6 * 5).reshape(5, 6, 7) % 6
    np.testing.assert_array_equal(array_of(dest / "labels/1.3.nii.gz"), np.isin(labels, (3, 4)))
    np.testing.assert_array_equal(array_of(dest / "images/1.3.nii.gz"), array_of(ct(seed=2)))
    assert "CC BY 4.0" in datalist["licence"]
    assert "automatic" in datalist["description"]


def test_luna16_without_subsets_is_drawn(tmp_path: Path) -> None:
    write_luna(tmp_path / "in", {f"1.{k}": "." for k in range(10)})
    drawn = cases_in(prepare(tmp_path / "in", tmp_path / "out", seed=3))
    assert {split: len(names) for split, names in drawn.items()} == {"training": 8, "validation": 1, "test": 1}
    assert drawn == cases_in(prepare(tmp_path / "in", tmp_path / "again", seed=3))


def test_kaggle_divides_70_30_by_patient(tmp_path: Path) -> None:
    for patient, slice_ in itertools.product(range(10), range(2)):
        write_slice(tmp_path / "in", f"ID_{patient:04}_Z_{slice_:04}", seed=2 * patient + slice_)
    datalist = prepare(tmp_path / "in", tmp_path / "out")
    patients = {split: {name[:7] for name in names} for split, names in cases_in(datalist).items()}
    assert {split: len(names) for split, names in patients.items()} == {"training": 6, "validation": 1, "test": 3}
    assert len(set().union(*patients.values())) == 10
    assert all(entry["patient"] == entry["image"][7:14] for split in SPLITS for entry in datalist[split])
    np.testing.assert_array_equal(
        array_of(tmp_path / "out/images/ID_0003_Z_0001.nii.gz")[0],
        array_of(tmp_path / "in/2d_images/ID_0003_Z_0001.tif"),
    )
    assert "400 mm" in datalist["description"]


def test_a_known_patient_stays_in_its_set(tmp_path: Path) -> None:
    for patient in range(10):
        write_slice(tmp_path / "in", f"ID_{patient:04}_Z_0000", seed=patient)
    first = prepare(tmp_path / "in", tmp_path / "out", seed=0)
    for patient in range(10):
        write_slice(tmp_path / "in", f"ID_{patient:04}_Z_0001", seed=patient)
    both = prepare(tmp_path / "in", tmp_path / "out", seed=1)
    for split in SPLITS:
        assert {entry["patient"] for entry in both[split]} == {entry["patient"] for entry in first[split]}
        assert len(both[split]) == 2 * len(first[split])


# ---- DICOM with contours ---------------------------------------------------------------------------------------------


def test_lctsc_contours_with_a_hole_become_the_exact_mask(tmp_path: Path) -> None:
    patient = tmp_path / "in/manifest-1/LCTSC/LCTSC-Train-S1-001/study"
    hu = write_dicom_ct(patient / "ct")
    write_dicom_ct(patient / "other", uid="1.2.3.5", slices=3)  # not the series that the contours refer to
    left, right = [box(1, 3, 1, 6, 1), box(2, 2, 3, 4, 1), box(1, 1, 1, 1, 9)], [box(6, 8, 2, 5, 1), box(7, 8, 2, 2, 2)]
    write_structures(patient / "rt/1.dcm", {"LUNG_L": left, "Right Lung": right, "Heart": [box(4, 5, 1, 6, 1)]})
    datalist = prepare(tmp_path / "in", tmp_path / "out")
    expected = np.zeros((4, 8, 10), np.uint8)
    expected[1, 1:7, 1:4], expected[1, 3:5, 2] = 1, 0
    expected[1, 2:6, 6:9], expected[2, 2, 7:9] = 1, 1
    assert cases_in(datalist)["training"] == ["LCTSC-Train-S1-001"]
    np.testing.assert_array_equal(array_of(tmp_path / "out/labels/LCTSC-Train-S1-001.nii.gz"), expected)
    image = sitk.ReadImage(str(tmp_path / "out/images/LCTSC-Train-S1-001.nii.gz"))
    np.testing.assert_array_equal(array_of(image), hu)
    assert image.GetOrigin() == pytest.approx((-5, -7, 30))
    assert image.GetSpacing() == pytest.approx((1.5, 2, 3))


def test_lctsc_names_divide_and_a_tenth_is_for_validation(tmp_path: Path) -> None:
    for name in ("LCTSC-Train-S1-001", "LCTSC-Train-S1-002", "LCTSC-Train-S2-001", "LCTSC-Test-S1-101"):
        write_dicom_ct(tmp_path / "in" / name)
        write_structures(tmp_path / "in" / name / "rt.dcm", {"Lung_L": [box(1, 3, 1, 6, 1)]}, uid=None)
    drawn = cases_in(prepare(tmp_path / "in", tmp_path / "out"))
    assert {split: len(names) for split, names in drawn.items()} == {"training": 2, "validation": 1, "test": 1}
    assert drawn["test"] == ["LCTSC-Test-S1-101"]


def test_lctsc_takes_a_mask_file_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    hu = write_dicom_ct(source / "anna/ct")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r"1 of 1 images .* have no mask: anna"):
        prepare(source, tmp_path / "out")
    mask = sitk.GetImageFromArray((hu < 0).astype(np.uint8) * 7)
    mask.SetOrigin((-5, -7, 30))
    mask.SetSpacing((1.5, 2, 3))
    write(mask, source / "anna_lung.nii.gz")
    assert cases_in(prepare(source, tmp_path / "out"))["training"] == ["anna"]
    np.testing.assert_array_equal(array_of(tmp_path / "out/labels/anna.nii.gz"), hu < 0)


def test_contours_without_pydicom_say_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom_ct(tmp_path / "in/anna")
    write_structures(tmp_path / "in/anna/rt.dcm", {"Lung_L": [box(1, 3, 1, 6, 1)]})
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r'pip install "monai-r2unet\[dicom\]"'):
        prepare(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("contours", "uid", "message"),
    [
        ({"Heart": [box(1, 3, 1, 6, 1)], "Cord": []}, "1.2.3.4", "no structure named as a lung, it has Cord, Heart"),
        ({"Lung_L": [box(1, 3, 1, 6, 1.5)]}, "1.2.3.4", "Lung_L .* does not lie on a slice"),
        ({"Lung_L": [box(1, 3, 1, 6, 40)]}, "1.2.3.4", "enclose no voxel"),
        ({"Lung_L": [box(1, 3, 1, 6, 1)]}, "1.2.3.8", "was drawn on a CT series .*that is missing"),
    ],
)
def test_contours_that_do_not_fit_are_refused(tmp_path: Path, contours: dict, uid: str, message: str) -> None:
    write_dicom_ct(tmp_path / "in/anna")
    write_structures(tmp_path / "in/anna/rt.dcm", contours, uid)
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "in", tmp_path / "out")


def test_dicom_patients_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    write_dicom_ct(tmp_path / "in/anna", modality="MR")
    with pytest.raises(InputError, match="anna holds DICOM files but no CT series"):
        prepare(tmp_path / "in", tmp_path / "out")
    write_dicom_ct(tmp_path / "in/anna/second", uid="1.2.3.5")
    write_dicom_ct(tmp_path / "in/anna/third", uid="1.2.3.6")
    write(mask_of(ct()), tmp_path / "in/anna/anna_lung.nrrd")
    with pytest.raises(InputError, match=r"2 CT series for anna_lung\.nrrd"):
        prepare(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/anna/anna_lung.nrrd").unlink()
    for name in ("a.dcm", "b.dcm"):
        write_structures(tmp_path / "in/anna" / name, {"Lung_L": [box(1, 3, 1, 6, 1)]})
    with pytest.raises(InputError, match="anna holds 2 RTSTRUCT"):
        prepare(tmp_path / "in", tmp_path / "out")


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(3, 30))
def test_polygons_are_filled_as_matplotlib_fills_them(seed: int, corners: int) -> None:
    path = pytest.importorskip("matplotlib.path")
    draw = np.random.default_rng(seed)
    # A star-shaped outline, partly outside the image, whose edges meet pixel centres with probability 0.
    angle, radius = np.sort(draw.uniform(0, 2 * np.pi, corners)), draw.uniform(0.5, 15, corners)
    x, y = draw.uniform(-3, 23) + radius * np.cos(angle), draw.uniform(-3, 19) + radius * np.sin(angle)
    rows, columns = np.mgrid[:17, :21]
    inside = path.Path(np.stack([x, y], 1)).contains_points(np.stack([columns.ravel(), rows.ravel()], 1))
    np.testing.assert_array_equal(fill_polygon(x, y, (17, 21)), inside.reshape(17, 21))


# ---- dividing --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=25, unique=True),
    st.sampled_from([(0.1, 0.1), (0.07, 0.3)]),
    st.integers(0, 5),
)
def test_every_patient_is_drawn_once(patients: list[str], fractions: tuple[float, float], seed: int) -> None:
    split = draw_split(patients, *fractions, seed)
    assert set(split) == set(patients)
    counts = [list(split.values()).count(name) for name in SPLITS]
    assert counts[0] >= 1
    assert len(patients) < 3 or min(counts) >= 1
    for count, fraction in zip(counts[1:], fractions, strict=True):
        assert abs(count - fraction * len(patients)) <= 1
    shuffled = random.Random(seed).sample(patients + patients[:2], len(patients) + len(patients[:2]))
    assert draw_split(shuffled, *fractions, seed) == split


def test_the_draw_is_the_same_on_every_machine() -> None:
    split = draw_split([f"p{k}" for k in range(10)], 0.1, 0.3, seed=0)
    assert [name for name, value in sorted(split.items()) if value == "test"] == ["p1", "p7", "p8"]
    assert [name for name, value in split.items() if value == "validation"] == ["p5"]


@given(st.dictionaries(st.text(max_size=4), st.sampled_from(["training", "test"]), max_size=30), st.integers(0, 3))
def test_validation_is_held_out_of_training_only(split: dict[str, str], seed: int) -> None:
    training = [patient for patient, name in split.items() if name == "training"]
    result = hold_out_validation(split, seed)
    held_out = [patient for patient, name in result.items() if name == "validation"]
    assert set(held_out) <= set(training)
    assert len(held_out) == (max(1, round(0.1 * len(training))) if len(training) > 1 else 0)
    assert {patient: name for patient, name in split.items() if patient not in held_out} == {
        patient: name for patient, name in result.items() if patient not in held_out
    }
    assert hold_out_validation(result, seed) == result or not held_out


def test_a_split_file_divides_and_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path / "in", list("abcdef"))
    rows = "ID,Split\na,train\nb,Training\nc,val\nd,test\ne,skip\ngone,test\n"
    (tmp_path / "in/split_70_30.csv").write_text(rows, encoding="utf-8-sig")
    with caplog.at_level(logging.WARNING):
        datalist = prepare(tmp_path / "in", tmp_path / "out")
    assert cases_in(datalist) == {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}
    assert "cases without files, left out (1): gone" in caplog.text
    assert len(list((tmp_path / "out/images").iterdir())) == 4
    (tmp_path / "own.csv").write_text("case,split\na,train\nb,train\nc,test\n")
    own = cases_in(prepare(tmp_path / "in", tmp_path / "own", split=tmp_path / "own.csv"))
    assert own["test"] == ["c"]
    assert len(own["training"]) == len(own["validation"]) == 1
    (tmp_path / "in/split2.csv").touch()
    with pytest.raises(InputError, match=r"2 split files .*, or choose one with split=.*split.*csv"):
        prepare(tmp_path / "in", tmp_path / "third")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,split\na,train\n", "has the columns name, split; it needs case"),
        ("", "it needs case"),
        ("case,split\na,train\nb,holdout\n", '"holdout" in line 3'),
        ("case,split\na,train\na,test\n", "puts a into two sets"),
        (b"\xff\xfe\xfa", "cannot be read as CSV"),
    ],
)
def test_split_files_with_mistakes(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_split_table(path)


def test_split_file_of_another_data_set_or_against_patients(tmp_path: Path) -> None:
    for name in ("ID_0000_Z_0000", "ID_0000_Z_0001"):
        write_slice(tmp_path / "in", name)
    table = tmp_path / "split.csv"
    table.write_text("case,split\nx,train\n")
    with pytest.raises(InputError, match="lists none of the cases"):
        prepare(tmp_path / "in", tmp_path / "out", split=table)
    table.write_text("case,split\nID_0000_Z_0000,train\nID_0000_Z_0001,test\n")
    with pytest.raises(InputError, match="puts cases of ID_0000 into two sets"):
        prepare(tmp_path / "in", tmp_path / "out", split=table)


# ---- resuming and merging --------------------------------------------------------------------------------------------


def test_an_interrupted_run_resumes_without_redoing_or_overwriting(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out"
    write_pairs(source, list("abcde"))

    def stop(done: int, total: int) -> None:
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, dest, progress=stop)
    assert not (dest / "datalist.json").exists()
    made = sorted((dest / "images").iterdir())
    assert len(made) == 3
    (dest / "labels/b.nii.gz").unlink()
    times = {path: path.stat().st_mtime_ns for path in dest.rglob("*.nii.gz")}
    resumed = prepare(source, dest)
    assert resumed == prepare(source, tmp_path / "at_once")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    for path in (dest / "labels").iterdir():
        np.testing.assert_array_equal(array_of(path), array_of(tmp_path / "at_once/labels" / path.name))
    before = (dest / "datalist.json").stat().st_mtime_ns
    with pytest.warns(UserWarning, match=r"5 of 5 cases are in .*datalist.json already and stay.*: a, b, c and 2 more"):
        assert prepare(source, dest, seed=9) == resumed
    assert (dest / "datalist.json").stat().st_mtime_ns == before


def test_files_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", ["a"])
    write(ct((3, 3, 3)), tmp_path / "out/images/a.nii.gz")
    with pytest.raises(InputError, match=r"already exist and do not match"):
        prepare(tmp_path / "in", tmp_path / "out")
    assert sitk.ReadImage(str(tmp_path / "out/images/a.nii.gz")).GetSize() == (3, 3, 3)


def test_two_data_sets_merge(tmp_path: Path) -> None:
    dest = tmp_path / "out"
    write_pairs(tmp_path / "first", ["a", "b", "c"])
    write_luna(tmp_path / "second", {"1.1": "subset0", "1.2": "subset8", "a": "subset9"})
    first = prepare(tmp_path / "first", dest)
    first["note"] = "written by hand"
    (dest / "datalist.json").write_text(json.dumps(first))
    merged = prepare(tmp_path / "second", dest)
    names = cases_in(merged)
    assert sorted(itertools.chain(*names.values())) == ["1.1", "1.2", "a", "b", "c"]
    assert "1.1" in names["training"]
    assert "1.2" in names["validation"]
    for split in SPLITS:
        assert merged[split][: len(first[split])] == first[split]
    assert merged["note"] == "written by hand"
    assert merged["licence"].startswith("pairs: as given by their owner; LUNA16")
    assert {split: len(entries) for split, entries in load_datalist(dest).items()} == {
        split: len(names[split]) for split in SPLITS
    }


def test_a_damaged_data_list_stops_before_work(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", ["a"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/datalist.json").write_text('{"training": ["a.nii.gz"]}')
    with pytest.raises(InputError, match='entry 1 of "training"'):
        prepare(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["datalist.json"]


# ---- loading the data list -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[object], Path]:
    """Makes a data folder with images i0 ... i4 and the given content of datalist.json."""

    def make(content: object) -> Path:
        for k in range(5):
            (tmp_path / f"i{k}").touch()
        (tmp_path / "datalist.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return make


def test_load_datalist_gives_absolute_paths_and_keeps_the_rest(
    folder: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"image": "./i0", "label": "i1", "fov": "i2", "patient": "p"}
    root = folder({"training": [entry], "validation": [], "test": [{"image": "i3", "label": "i4"}], "name": "x"})
    expected = {"image": str(root / "i0"), "label": str(root / "i1"), "fov": str(root / "i2"), "patient": "p"}
    assert load_datalist(root, "training") == [expected]
    assert load_datalist(str(root)) == {
        "training": [expected],
        "test": [{"image": str(root / "i3"), "label": str(root / "i4")}],
    }
    monkeypatch.chdir(root.parent)
    assert load_datalist(root.name, "training") == [expected]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": [{"image": "i0", "label": "i1"}]}, 'no cases under "validation" \\(it has training\\)'),
        ({"validation": []}, "it has none of the three"),
        ({"validation": {"image": "i0"}}, "is a dict instead of a list"),
        ({"validation": [{"image": "i0", "label": "i1"}, {"image": "i0"}]}, 'entry 2 of "validation"'),
        ({"validation": ["i0"]}, 'entry 1 of "validation"'),
        ({"validation": [{"image": "i0", "label": "i1", "fov": None}]}, 'entry 1 of "validation"'),
        (
            {"validation": [{"image": f"i{k}", "label": f"l{k}"} for k in range(5)]},
            "5 do not exist: .*l0, .*l1, .*l2 and 2 more",
        ),
        ('{"validation": [\n{]}', "not valid JSON: .* in line 2"),
        ("[]", "holds a list instead of an object"),
    ],
)
def test_data_lists_with_mistakes(folder: Callable[[object], Path], content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_datalist(folder(content), "validation")


def test_a_folder_named_by_a_number_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's command line reads ``--dataset_dir 2024`` as a number."""
    write_pairs(tmp_path / "in", list("ab"))
    prepare(tmp_path / "in", tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    # No caller of ours gives a number, so the type does not allow it.
    assert load_datalist(2024, "training") == load_datalist("2024", "training")  # type: ignore[call-overload]


def test_no_folder_and_no_data_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist; .*monai-r2unet prepare"):
        load_datalist(tmp_path / "none", "training")
    with pytest.raises(
        InputError, match=r'has no datalist\.json; .*monai-r2unet prepare.*"image": "images/a\.nii\.gz"'
    ):
        load_datalist(tmp_path, "training")


# ---- the public data -------------------------------------------------------------------------------------------------


def test_real_lctsc_and_kmader_merge(data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dest, kmader = tmp_path / "out", tmp_path / "kmader.csv"
    kmader.write_text("id,split\nID_0000_Z_0142,train\nID_0001_Z_0146,train\nID_0003_Z_0132,test\n")
    prepare(data_root / "lung/lctsc", dest, slices_per_case=3)
    assert "LCTSC_007" in caplog.text
    datalist = prepare(data_root / "lung/kmader", dest, rescale_intercept=-1024, split=kmader)
    names = cases_in(datalist)
    assert names["training"][:6] == [f"LCTSC_00{k}" for k in range(6)]
    assert names["test"] == ["LCTSC_008", "ID_0003_Z_0132"]
    assert names["validation"][0] == "LCTSC_006"
    assert len(names["validation"]) == 2
    original = array_of(data_root / "lung/lctsc/LCTSC_008_ct.nii.gz")
    # 148 slices in three thirds: the middle of each.
    np.testing.assert_array_equal(array_of(dest / "images/LCTSC_008.nii.gz"), original[[24, 74, 123]])
    stored = array_of(data_root / "lung/kmader/images/ID_0003_Z_0132.png")
    np.testing.assert_array_equal(array_of(dest / "images/ID_0003_Z_0132.nii.gz")[0], stored.astype(int) - 1024)
    for entry in load_datalist(dest, "training"):
        label = array_of(Path(entry["label"]))
        assert label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 1}
        assert array_of(Path(entry["image"]))[label > 0].mean() < -500


def test_real_lctsc_dicom_matches_its_mask(data_root: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "LCTSC-Test-007").symlink_to(data_root / "volumes/LCTSC_007_dicom")
    (source / "LCTSC-Test-007_lung.nii.gz").symlink_to(data_root / "volumes/LCTSC_007_lung.nii.gz")
    datalist = prepare(source, tmp_path / "out", layout="lctsc", slices_per_case=7)
    assert cases_in(datalist)["test"] == ["LCTSC-Test-007"]
    image = array_of(tmp_path / "out/images/LCTSC-Test-007.nii.gz")
    label = array_of(tmp_path / "out/labels/LCTSC-Test-007.nii.gz")
    assert image.shape == label.shape == (7, 512, 512)
    assert image[label > 0].mean() < -600


def test_real_lctsc_contours_traced_from_its_mask_give_it_back(data_root: Path, tmp_path: Path) -> None:
    contourpy = pytest.importorskip("contourpy")
    patient = tmp_path / "in/LCTSC-Test-S1-007"
    patient.mkdir(parents=True)
    (patient / "ct").symlink_to(data_root / "volumes/LCTSC_007_dicom")
    mask = sitk.ReadImage(str(data_root / "volumes/LCTSC_007_lung.nii.gz"))
    kept = [int((k + 0.5) * mask.GetDepth() / 12) for k in range(12)]
    contours = [
        [mask.TransformContinuousIndexToPhysicalPoint((float(x), float(y), float(z))) for x, y in line]
        for z in kept
        for line in contourpy.contour_generator(z=array_of(mask[:, :, z]).astype(float)).lines(0.5)
    ]
    write_structures(patient / "rt/1.dcm", {"Lungs": contours}, uid=None)
    prepare(tmp_path / "in", tmp_path / "out", slices_per_case=12)
    label = array_of(tmp_path / "out/labels/LCTSC-Test-S1-007.nii.gz")
    np.testing.assert_array_equal(label, array_of(mask)[kept])
    assert label.any()


def test_real_kaggle_slices(data_root: Path, tmp_path: Path) -> None:
    samples = data_root / "lung/kmader/original_512_samples"
    for path in sorted((samples / "images").iterdir()):
        (tmp_path / "in/2d_images").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "in/2d_images" / path.name)
        write(sitk.ReadImage(str(samples / f"masks/{path.stem}.png")), tmp_path / f"in/2d_masks/{path.name}")
    datalist = prepare(tmp_path / "in", tmp_path / "out")
    assert {split: len(datalist[split]) for split in SPLITS} == {"training": 4, "validation": 1, "test": 2}
    for entry in itertools.chain(*load_datalist(tmp_path / "out").values()):
        image, label = array_of(Path(entry["image"])), array_of(Path(entry["label"]))
        name = Path(entry["image"]).name.removesuffix(".nii.gz")
        np.testing.assert_array_equal(image[0], array_of(samples / f"images/{name}.tif"))
        np.testing.assert_array_equal(label[0], array_of(samples / f"masks/{name}.png") > 0)


def test_the_sample_of_the_lung_bundle_stays_small(data_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "sample.csv"
    sets = ["train"] * 4 + ["skip", "skip", "val", "skip", "test"]
    table.write_text("case,split\n" + "".join(f"LCTSC_{k:03},{name}\n" for k, name in enumerate(sets)))
    datalist = prepare(data_root / "lung/lctsc", tmp_path / "out", layout="pairs", slices_per_case=19, split=table)
    assert cases_in(datalist) == {
        "training": ["LCTSC_000", "LCTSC_001", "LCTSC_002", "LCTSC_003"],
        "validation": ["LCTSC_006"],
        "test": ["LCTSC_008"],
    }
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) < 8e6
    assert {array_of(path).shape for path in (tmp_path / "out/images").iterdir()} == {(19, 256, 256)}
