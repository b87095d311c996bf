"""Series with unrecognised parts, without a pixel size, or made to crash: the right volume or a sentence."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_r2unet.datasets.rtstruct import is_structure_set
from monai_r2unet.errors import InputError
from monai_r2unet.images.reading import read_image, read_image_with_notes
from tests.helpers.arrays import values
from tests.images.test_reading_and_writing import dicom_slice

pydicom = pytest.importorskip("pydicom")
DicomBytesIO = pydicom.filebase.DicomBytesIO
write_dataset = pydicom.filewriter.write_dataset

Edit = Callable[["pydicom.Dataset"], object]


def series(folder: Path, edit: Edit | None = None, count: int = 6, ending: str = ".dcm") -> Path:
    """Slices of 7 x 6 pixels of 0.7 x 0.8 mm, 2.5 mm apart, after `edit`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = dicom_slice(folder / f"{index}{ending}", 2.5 * index)
        if edit is not None:
            data = pydicom.dcmread(path)
            edit(data)
            data.save_as(path)
    return folder


def without_preamble(path: Path) -> None:
    data = pydicom.dcmread(path)
    content = DicomBytesIO()
    content.is_little_endian = content.is_implicit_VR = True
    write_dataset(content, data)
    path.write_bytes(content.getvalue())


# ---- a part of the series --------------------------------------------------------------------------------------------

UNRECOGNISED: dict[str, tuple[Callable[[Path], object], str]] = {
    "dangling link": (lambda p: (p.unlink(), p.symlink_to("/nowhere/else.dcm")), "is a link to a file that is missing"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:100]), "is damaged or of an unknown format"),
    "gzip": (
        lambda p: (p.with_name(f"{p.name}.gz").write_bytes(gzip.compress(p.read_bytes())), p.unlink()),
        "with gzip",
    ),
    "gzip, unnamed": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "is compressed with gzip"),
    "bzip2": (lambda p: p.rename(p.with_name(f"{p.name}.bz2")).write_bytes(b"BZh9"), "is compressed with bzip2"),
    "unfinished": (lambda p: p.rename(p.with_name(f"{p.name}.part")).write_bytes(bytes(60)), "unknown format"),
}


@pytest.mark.parametrize("ending", ["", ".dcm"])
@pytest.mark.parametrize("fault", UNRECOGNISED)
def test_a_slice_that_cannot_be_recognised_refuses_the_series_by_the_files_name(
    tmp_path: Path, fault: str, ending: str
) -> None:
    folder = series(tmp_path / "ct", ending=ending)
    spoil, reason = UNRECOGNISED[fault]
    spoil(folder / f"5{ending}")
    if ending and fault in ("empty", "cut", "gzip, unnamed"):
        reason = "is damaged"  # by its name it is DICOM
    with pytest.raises(InputError, match=rf"ct/5.*{reason}"):
        read_image(folder)
    for path in folder.glob("5*"):
        path.unlink()
    (folder / f"5{ending}").unlink(missing_ok=True)
    assert read_image(folder).GetSize() == (7, 6, 5)


def test_several_files_that_cannot_be_recognised_are_counted(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", ending="")
    for name in "345":
        (folder / name).write_bytes(b"")
    with pytest.raises(
        InputError, match=r"ct/3 may be one of the slices, but it is empty \(and 2 more files like it\)"
    ):
        read_image(folder)


def test_a_file_that_may_not_be_opened_refuses_the_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "ct", ending="")
    opened = Path.open

    def refuse(path: Path, *arguments: str) -> object:  # root may read anything
        if path.name == "4":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        InputError, match=r"ct/4 may be one of the slices, but it cannot be opened \(Permission denied\)"
    ):
        read_image(folder)


CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "more rows than pixels": (
        lambda data: setattr(data, "Rows", 12),
        r"5.dcm holds 84 bytes of pixels, but its header describes 7 x 12 x 1 pixels of 16 bits \(168 bytes\)",
    ),
    "fewer rows than pixels": (lambda data: setattr(data, "Rows", 3), r"holds 84 bytes .* 7 x 3 x 1 .* \(42 bytes\)"),
    "a frame too many": (lambda data: setattr(data, "NumberOfFrames", 2), r"holds 84 bytes .* 7 x 6 x 2"),
    "no rescale": (
        lambda data: delattr(data, "RescaleIntercept"),
        "1 of the 6 slices of .* lack RescaleSlope or RescaleIntercept, which the others state .* is 5.dcm",
    ),
    "a picture": (lambda data: _paint(data), r"5 in grey, 1 in colour"),
    "inverted": (lambda data: setattr(data, "PhotometricInterpretation", "MONOCHROME1"), "not HU.* in MONOCHROME2"),
    "64 bits": (lambda data: _widen(data), "in 64 bits, which cannot be read: convert it"),
}


def _paint(data: pydicom.Dataset) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, bytes(7 * 6 * 3)


def _widen(data: pydicom.Dataset) -> None:
    data.BitsAllocated = data.BitsStored = 64
    data.HighBit, data.PixelData = 63, bytes(7 * 6 * 8)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_slice_that_contradicts_itself_or_the_others_refuses_the_series(tmp_path: Path, name: str) -> None:
    folder = series(tmp_path / "ct")
    edit, words = CONTRADICTIONS[name]
    data = pydicom.dcmread(folder / "5.dcm")
    edit(data)
    data.save_as(folder / "5.dcm")
    with pytest.raises(InputError, match=words):
        read_image(folder)


def test_a_slice_without_rescale_is_one_of_values_that_need_none(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", lambda data: setattr(data, "RescaleIntercept", 0))
    data = pydicom.dcmread(folder / "5.dcm")
    del data.RescaleIntercept
    data.save_as(folder / "5.dcm")
    assert values(read_image(folder)).max() == 1250


@pytest.mark.parametrize("behind", [b"", b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0\0\0"])
def test_padding_of_pixels_and_behind_them_is_none_of_them(tmp_path: Path, behind: bytes) -> None:
    """Seven rows of five bytes are padded to an even length; and a file may be padded behind them."""
    path = series(tmp_path / "ct", count=1) / "0.dcm"
    data = pydicom.dcmread(path)
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.Rows, data.Columns, data.PixelData = 7, 7, 5, bytes(range(36))
    data.save_as(path)
    path.write_bytes(path.read_bytes() + behind)
    assert values(read_image(path)).ravel().tolist() == list(range(-1024, -1024 + 35))


def test_a_folder_of_compressed_slices_is_not_one_without_dicom(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    for path in list(folder.iterdir()):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(InputError, match=r"ct/0.dcm.gz .* is compressed with gzip \(and 5 more files like it\)"):
        read_image(folder)


def test_slices_without_preamble_belong_to_their_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", ending="")
    expected = read_image(folder)
    for name in "45":
        without_preamble(folder / name)
        assert (folder / name).read_bytes()[128:132] != b"DICM"
    image = read_image(folder)
    assert image.GetSize() == (7, 6, 6)
    np.testing.assert_array_equal(values(image), values(expected))


def test_what_is_known_to_be_no_slice_is_left_out(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", ending="")
    for name, content in {
        "LICENSE": b"text",
        "README.md": b"# text",
        "report.txt": b"",
        "report.txt.gz": gzip.compress(b"text"),
        "preview.jpg": b"\xff\xd8\xff\xe0" + bytes(20),
        "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(20),
        "AUTORUN.INF": "[autorun]".encode("utf-16"),
        "viewer.exe": b"MZ" + bytes(20),
        "all.zip": b"PK\3\4" + bytes(20),
        "all.tar.gz": gzip.compress(bytes(2000)),
        "mask.nii.gz": gzip.compress(bytes(400)),
        "mask.seg.nrrd": bytes(20),
        ".DS_Store": bytes(20),
        "._0": bytes(20),
    }.items():
        (folder / name).write_bytes(content)
    (folder / "more").mkdir()
    (folder / "more" / "x.gz").write_bytes(b"")
    os.mkfifo(folder / "pipe.dcm")
    image, notes = read_image_with_notes(folder)
    assert image.GetSize() == (7, 6, 6)
    assert notes == [f"all.tar.gz, all.zip beside the slices of {folder} is left out: unpack them, if they hold some"]


def test_a_slice_that_is_hidden_while_it_is_copied_refuses_the_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    (folder / "5.dcm").rename(folder / ".5.dcm.Xa3bF")
    with pytest.raises(InputError, match=r"ct/\.5\.dcm\.Xa3bF may be one of the slices, but it is hidden"):
        read_image(folder)


def test_text_that_is_named_like_a_slice_refuses_the_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", ending="")
    (folder / "5").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"ct/5 may be one of the slices, but it is not DICOM"):
        read_image(folder)


def test_a_part_of_the_series_in_a_subfolder_refuses_it(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    more = folder / "more"
    more.mkdir()
    (folder / "5.dcm").rename(more / "5.dcm")
    with pytest.raises(InputError, match=r"ct/more/5\.dcm belongs to the series of .*: put all slices into one folder"):
        read_image(folder)
    data = pydicom.dcmread(more / "5.dcm")
    data.SeriesInstanceUID += ".1"
    data.save_as(more / "5.dcm")
    assert read_image(folder).GetSize() == (7, 6, 5)


# ---- the size of a pixel ---------------------------------------------------------------------------------------------


def remove_spacing(data: pydicom.Dataset) -> None:
    del data.PixelSpacing


def imager(data: pydicom.Dataset) -> None:
    data.ImagerPixelSpacing = data.PixelSpacing
    del data.PixelSpacing


def nominal(data: pydicom.Dataset) -> None:
    data.NominalScannedPixelSpacing = data.PixelSpacing
    del data.PixelSpacing


def in_groups(data: pydicom.Dataset, shared: bool = True) -> None:
    """Move what enhanced classes keep in functional groups there."""
    measures, place, orientation, rescale = (pydicom.Dataset() for _ in range(4))
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, data.SliceThickness
    place.ImagePositionPatient = data.ImagePositionPatient
    orientation.ImageOrientationPatient = data.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept = data.RescaleSlope, data.RescaleIntercept
    both, frame = pydicom.Dataset(), pydicom.Dataset()
    frame.PlanePositionSequence = [place]
    group = both if shared else frame
    group.PixelMeasuresSequence, group.PlaneOrientationSequence = [measures], [orientation]
    group.PixelValueTransformationSequence = [rescale]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [both], [frame]
    data.NumberOfFrames = 1
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(data, name)
    del data.RescaleSlope, data.RescaleIntercept


def set_spacing(value: object) -> Edit:
    return lambda data: setattr(data, "PixelSpacing", value)


CLASSES = {  # whose PixelSpacing GDCM reads, reads elsewhere, or does not read
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "legacy converted enhanced CT": "1.2.840.10008.5.1.4.1.1.2.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PET": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
    "X-ray 3D": "1.2.840.10008.5.1.4.1.1.13.1.1",
    "secondary capture": "1.2.840.10008.5.1.4.1.1.7",
    "multi-frame secondary capture": "1.2.840.10008.5.1.4.1.1.7.3",
    "RT image": "1.2.840.10008.5.1.4.1.1.481.1",
    "RT dose": "1.2.840.10008.5.1.4.1.1.481.2",
}


def of_class(uid: str, then: Edit | None = None) -> Edit:
    def edit(data: pydicom.Dataset) -> None:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uid
        if then is not None:
            then(data)

    return edit


@pytest.mark.parametrize("name", CLASSES)
def test_pixel_spacing_is_read_from_every_class_of_image(tmp_path: Path, name: str) -> None:
    image = read_image(series(tmp_path / "ct", of_class(CLASSES[name])))
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5))
    assert image.GetOrigin() == (0, 20, 0)
    for wrong in (remove_spacing, set_spacing(""), set_spacing([0, 0]), imager, nominal):
        with pytest.raises(InputError, match=r"ct/0\.dcm does not say how large its pixels are in the patient"):
            read_image(series(tmp_path / "ct", of_class(CLASSES[name], wrong)))


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ["enhanced CT", "legacy converted enhanced CT", "X-ray 3D"])
def test_functional_groups_give_size_and_place(tmp_path: Path, name: str, shared: bool, implicit: bool) -> None:
    def edit(data: pydicom.Dataset) -> None:
        in_groups(data, shared)
        if implicit:
            data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian

    expected = read_image(series(tmp_path / "plain"))
    image = read_image(series(tmp_path / "ct", of_class(CLASSES[name], edit)))
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5))
    assert image.GetOrigin() == expected.GetOrigin()
    np.testing.assert_array_equal(values(image), values(expected))
    np.testing.assert_allclose(read_image(tmp_path / "ct" / "3.dcm").GetSpacing(), (0.7, 0.8, 5))


@pytest.mark.parametrize("value", [[0.7], [0.7, 0], [-0.7, 0.8], [0.7, 0.8, 2]])
def test_a_pixel_spacing_that_is_none_is_refused(tmp_path: Path, value: list[float]) -> None:
    with pytest.raises(InputError, match="does not say how large its pixels are"):
        read_image(series(tmp_path / "ct", set_spacing(value), count=1))


def test_a_size_that_is_not_the_patients_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in the patient \(ImagerPixelSpacing, at the detector, is another\)"):
        read_image(series(tmp_path / "ct", imager))
    with pytest.raises(InputError, match=r"in the patient \(NominalScannedPixelSpacing, on the film, is another\)"):
        read_image(series(tmp_path / "ct", nominal))


def test_another_series_without_pixel_size_does_not_matter(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")

    def report(data: pydicom.Dataset) -> None:
        data.SeriesInstanceUID = "1.2.826.0.1.2"
        del data.PixelSpacing

    shutil.copy(series(tmp_path / "other", report, count=1) / "0.dcm", folder / "dose.dcm")
    assert read_image(folder, series="1.2.826.0.1.1").GetSize() == (7, 6, 6)
    with pytest.raises(InputError, match=r"dose\.dcm does not say how large"):
        read_image(folder, series="1.2.826.0.1.2")


def test_a_slice_without_thickness_is_warned_of(tmp_path: Path) -> None:
    def edit(data: pydicom.Dataset) -> None:
        del data.SliceThickness

    image, notes = read_image_with_notes(series(tmp_path / "ct", edit, count=1))
    assert image.GetSpacing() == (0.7, 0.8, 1)
    assert len(notes) == 1
    assert notes[0].endswith("has no slice thickness, so millilitres are computed for 1 mm")
    assert read_image_with_notes(series(tmp_path / "ct", edit, count=2))[1] == []  # from their positions


# ---- damage and compression ------------------------------------------------------------------------------------------


def nested(path: Path, depth: int, explicit_lengths: bool) -> None:
    """Put sequences in sequences before the pixels, as no writer does."""
    if explicit_lengths:
        parts, length = [], 0
        for _ in range(depth):
            parts += [
                struct.pack("<HHI", 0xFFFE, 0xE000, length),
                struct.pack("<HH2s2xI", 0x40, 0xA730, b"SQ", length + 8),
            ]
            length += 20
        content = b"".join(reversed(parts))
    else:
        begin = struct.pack("<HH2s2xIHHI", 0x40, 0xA730, b"SQ", 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)
        content = begin * depth + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth
    data = path.read_bytes()
    pixels = data.index(b"\xe0\x7f\x10\0OW")
    path.write_bytes(data[:pixels] + content + data[pixels:])


@pytest.mark.parametrize("explicit_lengths", [True, False])
def test_sequences_nested_without_end_are_refused_and_end_no_process(tmp_path: Path, explicit_lengths: bool) -> None:
    code = "import sys; from monai_r2unet.images.reading import read_image; print(read_image(sys.argv[1]).GetSize())"
    for depth in (60, 100_000):
        path = dicom_slice(tmp_path / f"{depth}.dcm", 0)
        nested(path, depth, explicit_lengths)
        told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        if depth == 60:
            assert told.stdout == "(7, 6, 1)\n"
        else:
            assert told.returncode == 1  # not -11, of an overflowing stack
            assert "InputError: the DICOM file" in told.stderr
            assert "nested more than 64 times" in told.stderr


@pytest.mark.parametrize("explicit_lengths", [True, False])
def test_a_structure_set_nested_without_end_is_refused(tmp_path: Path, explicit_lengths: bool) -> None:
    path = dicom_slice(tmp_path / "a.dcm", 0)
    assert not is_structure_set(path)
    nested(path, 1000, explicit_lengths)
    with pytest.raises(InputError, match="nested more than 64 times"):
        is_structure_set(path)


def test_many_sequences_beside_each_other_are_no_nesting(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", 0)
    for undefined in (False, True):
        data = pydicom.dcmread(path)
        items = []
        for _ in range(300):
            item = pydicom.Dataset()
            item.ReferencedSOPInstanceUID = "1.2.3"
            item.is_undefined_length_sequence_item = undefined
            items.append(item)
        data.SourceImageSequence = items
        data["SourceImageSequence"].is_undefined_length = undefined
        data.save_as(path)
        assert read_image(path).GetSize() == (7, 6, 1)


def test_a_compressed_slice_that_is_cut_is_named(tmp_path: Path) -> None:
    def compress(data: pydicom.Dataset) -> None:
        data.compress(pydicom.uid.RLELossless)

    folder = series(tmp_path / "ct", compress)
    assert read_image(folder).GetSize() == (7, 6, 6)
    data = pydicom.dcmread(folder / "3.dcm")
    (frame,) = pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 3]])
    data.save_as(folder / "3.dcm")
    with pytest.raises(InputError, match=r"ct/3\.dcm is damaged, truncated"):
        read_image(folder)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000, "),
        ("1.2.840.10008.1.2.4.110", "JPEG XL, "),
        ("1.2.840.10008.1.2.4.100", ""),  # MPEG-2
    ],
)
def test_a_codec_that_is_missing_is_no_damage(tmp_path: Path, syntax: str, name: str) -> None:
    path = dicom_slice(tmp_path / "a.dcm", 0)
    data = pydicom.dcmread(path)
    data.PixelData = pydicom.encaps.encapsulate([bytes(range(100))])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    data.save_as(path)
    content = path.read_bytes()
    old, new = (
        struct.pack("<H", len(uid) + len(uid) % 2) + uid.encode() + b"\0" * (len(uid) % 2)
        for uid in (data.file_meta.TransferSyntaxUID, syntax)
    )
    content = content.replace(old, new, 1)
    (length,) = struct.unpack_from("<I", content, 140)
    path.write_bytes(content[:140] + struct.pack("<I", length + len(new) - len(old)) + content[144:])
    with pytest.raises(
        InputError, match=rf"compressed in a way that cannot be read \({name}transfer syntax {re.escape(syntax)}\)"
    ):
        read_image(path)
