"""DICOM SEG: another library finds every frame on the slice it belongs to, and a validator finds no error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.apps.cli.main import main
from monai_r2unet.apps.worker.protocol import Request
from monai_r2unet.apps.worker.run import Run
from monai_r2unet.apps.worker.runner import Runner
from monai_r2unet.bundle import Bundle, find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_seg import write_dicom_seg
from monai_r2unet.images.masks import check_mask_output, check_mask_source, write_mask
from monai_r2unet.images.reading import read_image
from tests.helpers.dicom_validator import VALIDATOR, validated
from tests.helpers.lung_examples import LUNG
from tests.images.test_dicom_faults import CLASSES, in_groups, of_class
from tests.images.test_seg_nrrd import LABELS

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

STUDY, SERIES, FRAME = "1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3"
ORIENTATIONS = {"axial": (1, 0, 0, 0, 1, 0), "sagittal": (0, 1, 0, 0, 0, -1), "coronal": (1, 0, 0, 0, 0, -1)}
DEPTH, ROWS, COLUMNS = 5, 6, 7


def write_series(folder: Path, orientation: Sequence[float] = ORIENTATIONS["axial"], series: str = SERIES) -> Path:
    """A CT series whose files are named, and numbered, against the order of their positions."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    for z in range(DEPTH):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{series}.{DEPTH - z}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = STUDY, series, FRAME
        data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Doe^Jane", "7", "19700101", "F"
        data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200101", "120000", "1", "2"
        data.ReferringPhysicianName, data.Modality, data.PositionReferenceIndicator = "", "CT", ""
        data.SeriesNumber, data.InstanceNumber, data.SliceThickness = 3, DEPTH - z, 2.5
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient = [float(part) for part in np.round([-10, 20, 30] + 2.5 * z * normal, 3)]
        data.ImageOrientationPatient, data.PixelSpacing = list(orientation), [0.8, 0.7]
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = ROWS, COLUMNS
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = np.full((ROWS, COLUMNS), 100 * z, "<u2").tobytes()
        data.save_as(folder / f"{DEPTH - z}.dcm", enforce_file_format=True)
    return folder


def mask_of(folder: Path, empty: bool = False) -> sitk.Image:
    """Random labels 0, 1 and 2 on the grid of the series; its second slice is empty."""
    array = np.random.default_rng(0).integers(0, 3, (DEPTH, ROWS, COLUMNS)).astype(np.uint8)
    array[1] = 0
    mask = sitk.GetImageFromArray(array * (not empty))
    mask.CopyInformation(read_image(folder))
    return mask


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The lung bundle with two labels."""
    metadata = json.loads((LUNG / "configs" / "metadata.json").read_text())
    (tmp_path / "lungs" / "configs").mkdir(parents=True)
    (tmp_path / "lungs" / "configs" / "metadata.json").write_text(json.dumps(metadata | {"labels": LABELS}))
    return Bundle(tmp_path / "lungs")


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_frames_lie_on_the_slices_they_were_made_from(plane: str, bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ORIENTATIONS[plane])
    mask = mask_of(folder)
    write_dicom_seg(mask, bundle, folder, tmp_path / "seg.dcm")
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    expected = sitk.GetArrayFromImage(mask)
    # By instance: what the reader puts on a source slice is what was found in the file at that position.
    uids = [pydicom.dcmread(folder / f"{DEPTH - z}.dcm").SOPInstanceUID for z in range(DEPTH)]
    frames = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=False, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames, expected)
    # By geometry, through another path of the reader.
    volume = seg.get_volume(combine_segments=True, allow_missing_positions=True).match_geometry(
        hd.Volume.from_components(
            direction=np.reshape(mask.GetDirection(), (3, 3))[:, ::-1],
            position=mask.GetOrigin(),
            spacing=mask.GetSpacing()[::-1],
            array=expected,
            coordinate_system="PATIENT",
        )
    )
    np.testing.assert_array_equal(volume.array, expected)


def test_it_belongs_to_the_study_and_says_what_made_it(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    write_dicom_seg(mask_of(folder), bundle, folder, tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SOPClassUID == pydicom.uid.SegmentationStorage
    assert (seg.Modality, seg.SegmentationType, seg.PatientID, seg.PatientName) == ("SEG", "BINARY", "7", "Doe^Jane")
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (STUDY, FRAME)
    assert seg.SeriesInstanceUID != SERIES
    (reference,) = seg.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == SERIES
    assert {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence} == {
        f"{SERIES}.{number + 1}" for number in range(DEPTH)
    }
    right, left = seg.SegmentSequence
    assert [(s.SegmentNumber, s.SegmentLabel) for s in (right, left)] == [(1, "right lung"), (2, "left lung")]
    assert left.SegmentAlgorithmType == "AUTOMATIC"
    assert left.SegmentAlgorithmName == "Lungs in CT (R2U-Net)"
    (algorithm,) = left.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Lungs in CT (R2U-Net)", "0.1.0")
    (kind,) = left.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("39607008", "SCT", "Lung")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert left.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    colour = hd.color.CIELabColor.from_dicom_value(left.RecommendedDisplayCIELabValue).to_rgb()
    np.testing.assert_allclose(colour, (51, 0, 255), atol=1)


@pytest.mark.parametrize("empty", [False, True])
def test_a_validator_finds_no_error(empty: bool, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    mask = mask_of(folder, empty) > 0
    write_dicom_seg(mask, find_bundle("lung"), folder, tmp_path / "seg.dcm")
    said, errors = validated(tmp_path / "seg.dcm")
    assert "Segmentation" in said  # the kind of object it recognised
    assert errors == []
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    assert seg.pixel_array.any() == (not empty)


def test_one_slice_and_one_series_of_several(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    mask = mask_of(folder)
    write_mask(mask[:, :, 3:4], tmp_path / "one.dcm", bundle=bundle, source=folder / "2.dcm")
    (reference,) = hd.seg.segread(tmp_path / "one.dcm").ReferencedSeriesSequence
    assert [i.ReferencedSOPInstanceUID for i in reference.ReferencedInstanceSequence] == [f"{SERIES}.2"]
    other = write_series(tmp_path / "other", series="1.2.826.0.1.9")
    for path in other.iterdir():
        path.rename(folder / f"other{path.name}")
    write_mask(mask, tmp_path / "seg.dcm", bundle=bundle, source=folder, series="1.2.826.0.1.9")
    assert hd.seg.segread(tmp_path / "seg.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.826.0.1.9"
    with pytest.raises(InputError, match="10 DICOM slices"):
        write_mask(mask, tmp_path / "all.dcm", bundle=bundle, source=folder)


def test_what_cannot_be_written_is_refused_and_nothing_is_left(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    mask = mask_of(folder)
    output = tmp_path / "seg.dcm"
    with pytest.raises(InputError, match="is not DICOM"):
        check_mask_output(output, LUNG / "sample" / "images" / "LCTSC_008.nii.gz", overwrite=False)
    with pytest.raises(InputError, match="among the slices of its series"):
        check_mask_output(folder / "seg.dcm", folder, overwrite=False)
    with pytest.raises(InputError, match=r"unknown ending, expected one of \.seg\.nrrd"):
        check_mask_output(tmp_path / "seg.bmp", folder, overwrite=False)
    shifted = sitk.Image(mask)
    shifted.SetOrigin((-10, 20, 32.5))
    for wrong in (mask[:, :, :4], shifted, mask[:5]):
        with pytest.raises(InputError, match="is not that of the 5 DICOM slices"):
            write_dicom_seg(wrong, bundle, folder, output)
    plain = Bundle(bundle.root)
    del plain.labels[1]["terminology"]
    with pytest.raises(InputError, match="'left lung' of the bundle 'lungs' has no terminology category"):
        write_dicom_seg(mask, plain, folder, output)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        del data.FrameOfReferenceUID
        data.save_as(path)
    with pytest.raises(InputError, match="lacks FrameOfReferenceUID, which a segmentation must repeat"):
        write_dicom_seg(mask, bundle, folder, output)
    assert not output.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "lungs"]


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'needs pydicom and highdicom: run pip install "monai-r2unet\[dicom\]"'):
        check_mask_output(tmp_path / "seg.dcm", tmp_path, overwrite=False)


# ---- what sources lack -----------------------------------------------------------------------------------------------


def edited(folder: Path, **values: object) -> Path:
    """The series with these attributes set, or deleted if None."""
    write_series(folder)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        for name, value in values.items():
            if value is None:
                delattr(data, name)
            else:
                with pydicom.config.disable_value_validation():
                    setattr(data, name, value)
        with pydicom.config.disable_value_validation():
            data.save_as(path)
    return folder


def errors_in(path: Path) -> list[str]:
    """What a validator finds wrong; nothing if it is not installed."""
    return [] if VALIDATOR is None else validated(path)[1]


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"
MENDED: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "Japanese": (
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": JAPANESE},
        {"PatientName": JAPANESE},
    ),
    "Korean": ({"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": KOREAN}, {"PatientName": KOREAN}),
    "Latin-1": ({"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}, {"PatientName": "Müller^Jörg"}),
    "Cyrillic": ({"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Юлия"}, {"PatientName": "Юлия"}),
    "Unicode": ({"SpecificCharacterSet": "ISO_IR 192", "PatientName": JAPANESE}, {"PatientName": JAPANESE}),
    "GB18030": ({"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"}, {}),
    "empty set": ({"SpecificCharacterSet": ""}, {"PatientName": "Doe^Jane"}),
    "undefined set": ({"SpecificCharacterSet": "ISO_IR 6"}, {"PatientName": "Doe^Jane"}),
    "unknown set": ({"SpecificCharacterSet": "NONSENSE"}, {"PatientName": "Doe^Jane"}),
    "no name": ({"PatientName": None}, {"PatientName": ""}),
    "no ID": ({"PatientID": None}, {"PatientID": ""}),
    "no birth date": ({"PatientBirthDate": None}, {"PatientBirthDate": ""}),
    "no sex": ({"PatientSex": None}, {"PatientSex": ""}),
    "no study": (
        {
            "StudyDate": None,
            "StudyTime": None,
            "StudyID": None,
            "AccessionNumber": None,
            "ReferringPhysicianName": None,
        },
        {"StudyDate": "", "StudyTime": "", "StudyID": "", "AccessionNumber": "", "ReferringPhysicianName": ""},
    ),
    "dates with dashes": (
        {"StudyDate": "2020-01-31", "StudyTime": "12:34:56", "PatientBirthDate": "1970-02-03"},
        {"StudyDate": "20200131", "StudyTime": "123456", "PatientBirthDate": "19700203"},
    ),
    "dates with dots": ({"StudyDate": "2020.01.31"}, {"StudyDate": "20200131"}),
    "no dates": ({"StudyDate": "unknown", "PatientBirthDate": "20201399"}, {"StudyDate": "", "PatientBirthDate": ""}),
    "sex as word": ({"PatientSex": "female"}, {"PatientSex": ""}),
    "sex unknown": ({"PatientSex": "U"}, {"PatientSex": ""}),
    "too long": ({"StudyID": "x" * 40, "AccessionNumber": "y" * 40}, {"StudyID": "", "AccessionNumber": ""}),
    "age": ({"PatientAge": "50"}, {}),
    "no thickness": ({"SliceThickness": None}, {}),
    "empty thickness": ({"SliceThickness": ""}, {}),
    "no instance number": ({"InstanceNumber": None, "SeriesNumber": None}, {}),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_mended_by_the_standard_is_mended(name: str, bundle: Bundle, tmp_path: Path) -> None:
    changes, expected = MENDED[name]
    folder = edited(tmp_path / "ct", **changes)
    check_mask_source("seg.dcm", bundle=bundle, source=folder)
    mask = mask_of(folder)
    write_mask(mask, tmp_path / "seg.dcm", bundle=bundle, source=folder)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert {name: str(seg[name].value or "") for name in expected} == expected
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(2.5)
    assert errors_in(tmp_path / "seg.dcm") == []
    frames = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True, allow_missing_positions=True)
    assert frames.array.sum() == sitk.GetArrayFromImage(mask).sum()


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no frame of reference": ({"FrameOfReferenceUID": None}, "lacks FrameOfReferenceUID, which a segmentation must"),
    "empty frame of reference": ({"FrameOfReferenceUID": ""}, "lacks FrameOfReferenceUID, which a segmentation must"),
    "no study": ({"StudyInstanceUID": None}, "lacks StudyInstanceUID, which a segmentation must repeat"),
    "invalid study": ({"StudyInstanceUID": "1.2.abc"}, "has the StudyInstanceUID 1.2.abc, which is no valid UID"),
    "one instance": ({"SOPInstanceUID": "1.2.3"}, "have one SOPInstanceUID, so a segmentation cannot refer to each"),
    "unknown class": ({"SOPClassUID": "1.2.3.4"}, "lacks what a segmentation must repeat of it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mended_is_refused_before_the_network_runs(name: str, bundle: Bundle, tmp_path: Path) -> None:
    changes, words = REFUSED[name]
    folder = edited(tmp_path / "ct", **changes)
    with pytest.raises(InputError, match=words):
        check_mask_source("seg.dcm", bundle=bundle, source=folder)
    check_mask_source("mask.nrrd", bundle=bundle, source=folder)


def test_two_frames_of_reference_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    data = pydicom.dcmread(folder / "1.dcm")
    data.FrameOfReferenceUID = "1.2.3"
    data.save_as(folder / "1.dcm")
    for output in ("seg.dcm", "a.rtstruct.dcm"):
        with pytest.raises(InputError, match=r"differ in FrameOfReferenceUID, of which a .* has one"):
            check_mask_source(output, bundle=bundle, source=folder)


def test_a_bundle_without_terminology_is_refused_before_the_network_runs(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    del bundle.labels[1]["terminology"]
    with pytest.raises(InputError, match="'left lung' of the bundle 'lungs' has no terminology category"):
        check_mask_source("seg.dcm", bundle=bundle, source=folder)


def test_an_enhanced_image_with_one_frame_gets_a_segmentation(bundle: Bundle, tmp_path: Path) -> None:
    path = write_series(tmp_path / "ct") / "3.dcm"
    data = pydicom.dcmread(path)
    of_class(CLASSES["enhanced CT"], in_groups)(data)
    data.save_as(tmp_path / "enhanced.dcm")
    image = read_image(tmp_path / "enhanced.dcm")
    mask = sitk.Cast(image * 0 + 1, sitk.sitkUInt8)
    check_mask_source("seg.dcm", bundle=bundle, source=tmp_path / "enhanced.dcm")
    write_mask(mask, tmp_path / "seg.dcm", bundle=bundle, source=tmp_path / "enhanced.dcm")
    assert hd.seg.segread(tmp_path / "seg.dcm").pixel_array.sum() == ROWS * COLUMNS


@pytest.mark.parametrize("way", ["command", "cohort", "worker"])
def test_every_way_in_refuses_before_the_network_runs(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr("monai_r2unet.inference.segmenter.Segmenter.run", never)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces
    folder = edited(tmp_path / "cases" / "ct", FrameOfReferenceUID="")
    if way == "worker":
        request = Request("lung", str(folder), str(tmp_path / "seg.dcm"), device="cpu")
        event, answer = Runner().do(Run(request, SimpleNamespace(cancelled=0, send=lambda *_, **__: None), 1))
        assert (event, answer["code"]) == ("error", "input")
        told = answer["message"]
    else:
        arguments = [str(folder), str(tmp_path / "seg.dcm")]
        if way == "cohort":
            arguments = [str(tmp_path / "cases"), str(tmp_path / "out"), "--ending", ".dcm"]
        assert main(["segment", *arguments, "--bundle", "lung"]) == (2 if way == "command" else 3)
        told = capsys.readouterr().err
    assert "lacks FrameOfReferenceUID, which a segmentation must repeat" in told
    assert not (tmp_path / "seg.dcm").exists()
