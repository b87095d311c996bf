"""Reading and writing of images: every format, geometry, damage, DICOM series, and the way through MONAI."""

from __future__ import annotations

import gzip
import os
import struct
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import NibabelReader
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Orientationd, SaveImaged

from monai_r2unet.errors import InputError, find_input_error
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import MASK_FORMATS, check_output, write_image
from monai_r2unet.transforms.metatensor import SimpleITKReader, from_metatensor, to_metatensor
from tests.helpers.arrays import values

READER = "monai_r2unet.transforms.metatensor.SimpleITKReader"
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6)
FRAMES = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "oblique": OBLIQUE,
    "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "oblique left-handed": tuple(-v for v in OBLIQUE),
}


def volume(frame: str = "axial", dtype: str = "int16", size: tuple[int, ...] = (7, 6, 5)) -> sitk.Image:
    """A small volume of noise, different along every axis."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 120, size[::-1]).astype(dtype))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-123.456, 78.9, 1718.5))
    image.SetDirection(FRAMES[frame])
    return image


def assert_same(a: sitk.Image, b: sitk.Image) -> None:
    assert a.GetSize() == b.GetSize()
    assert a.GetPixelIDTypeAsString() == b.GetPixelIDTypeAsString()
    np.testing.assert_array_equal(values(a), values(b))
    np.testing.assert_allclose(a.GetSpacing(), b.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(a.GetDirection(), b.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(a.GetOrigin(), b.GetOrigin(), atol=1e-4, rtol=1e-7)  # NIfTI has float32 here
    assert same_grid(a, b)


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", VOLUMES)
def test_every_volume_format_is_read(tmp_path: Path, ending: str, compress: bool, frame: str) -> None:
    path = tmp_path / f"ct{ending}"
    sitk.WriteImage(volume(frame), str(path), useCompression=compress)
    assert_same(read_image(path), volume(frame))
    assert_same(read_image(str(path)), volume(frame))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_pixel_type_is_kept(tmp_path: Path, ending: str, dtype: str) -> None:
    sitk.WriteImage(volume(dtype=dtype), str(tmp_path / f"a{ending}"))
    assert values(read_image(tmp_path / f"a{ending}")).dtype == dtype


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_axes_of_length_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    series = sitk.JoinSeries([volume()])
    assert series.GetSize() == (7, 6, 5, 1)
    sitk.WriteImage(series, str(path))
    assert_same(read_image(path), volume())
    sitk.WriteImage(volume()[:, :, 2], str(path))
    image = read_image(path)
    assert image.GetSize() == (7, 6, 1)
    np.testing.assert_array_equal(values(image)[0], values(volume())[2])


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_four_dimensions_are_refused_with_their_shape(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.JoinSeries([volume(), volume()]), str(path))
    with pytest.raises(InputError, match=r"4 axes .7 x 6 x 5 x 2., expected one 3D volume"):
        read_image(path)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray, **header: object) -> Path:
    image = nib.Nifti1Image(array, affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("determinant", [1, -1])
def test_nifti_affine_is_exact(tmp_path: Path, determinant: int) -> None:
    rng = np.random.default_rng(3)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= determinant * np.sign(np.linalg.det(rotation))
    affine = np.eye(4)
    affine[:3, :3] = rotation * (0.9765625, 0.9765625, 3.0)
    affine[:3, 3] = (-249.51171875, 12.25, -631.5)
    path = nifti(tmp_path / "a.nii", rng.integers(0, 9, (4, 5, 6)).astype(np.int16), affine)
    tensor = to_metatensor(read_image(path))
    np.testing.assert_allclose(tensor.affine.numpy(), nib.load(path).affine, atol=1e-5)
    np.testing.assert_array_equal(tensor.numpy(), nib.load(path).get_fdata())


def test_nifti_scaling(tmp_path: Path) -> None:
    raw = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    for slope, inter, dtype in ((1, -1024, np.int16), (2, 40000, np.int32), (0.5, 0.25, np.float32)):
        path = nifti(tmp_path / "a.nii.gz", raw, np.eye(4))
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[112:120] = struct.pack("<2f", slope, inter)  # nibabel itself sets them when it saves
        path.write_bytes(gzip.compress(content))
        array = values(read_image(path))
        assert array.dtype == dtype
        np.testing.assert_array_equal(array.T, raw * float(slope) + inter)


def test_nifti_variants(tmp_path: Path) -> None:
    raw = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag((-2.0, -2.0, 3.0, 1.0))
    expected = read_image(nifti(tmp_path / "a.nii", raw, affine))
    np.testing.assert_array_equal(values(expected).T, raw)

    nib.save(nib.Nifti2Image(raw, affine), tmp_path / "two.nii.gz")
    assert_same(read_image(tmp_path / "two.nii.gz"), expected)

    big_endian = nib.Nifti1Header(endianness=">")
    big_endian.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(raw, affine, big_endian), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    assert_same(read_image(tmp_path / "big.nii"), expected)

    (tmp_path / "misnamed.NII").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    assert_same(read_image(tmp_path / "misnamed.NII"), expected)

    metres = nifti(tmp_path / "metres.nii", raw, np.diag((-0.002, -0.002, 0.003, 1.0)), xyzt_units=1)
    np.testing.assert_allclose(read_image(metres).GetSpacing(), (2, 2, 3), rtol=1e-6)

    rgb = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = raw
    nib.save(nib.Nifti1Image(rgb, affine), tmp_path / "rgb.nii")
    colour = read_image(tmp_path / "rgb.nii")
    assert colour.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(values(colour)[..., 1].T, raw)


def test_nifti_geometry_that_is_refused(tmp_path: Path) -> None:
    raw = np.zeros((20, 20, 20), np.uint8)
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(InputError, match=r"sheared axes.*resample"):
        read_image(nifti(tmp_path / "a.nii", raw, sheared))
    slightly = np.eye(4)
    slightly[0, 1] = 1e-4  # less than a tenth of a voxel over the volume: rounding
    assert read_image(nifti(tmp_path / "b.nii", raw, slightly)).GetSize() == raw.shape
    with pytest.raises(InputError, match=r"axis of size zero .0 x 4 x 4."):
        read_image(nifti(tmp_path / "c.nii", np.zeros((0, 4, 4), np.uint8), np.eye(4)))
    content = bytearray(nifti(tmp_path / "d.nii", raw, np.eye(4)).read_bytes())
    content[296:312] = bytes(16)  # srow_y
    (tmp_path / "d.nii").write_bytes(content)
    with pytest.raises(InputError, match=r"spacing of \[1.0, 0.0, 1.0\]"):
        read_image(tmp_path / "d.nii")
    with pytest.raises(InputError, match="complex64 are not supported"):
        read_image(nifti(tmp_path / "e.nii", raw.astype(np.complex64), np.eye(4)))


def test_nifti_without_orientation_warns(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), np.diag((2.0, 3.0, 4.0, 1.0)))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="which side is left cannot be known"):
        image = read_image(path)
    assert image.GetSpacing() == (2, 3, 4)


def test_sheared_metaimage_is_refused(tmp_path: Path) -> None:
    image = volume()
    image.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="sheared axes"):
        read_image(tmp_path / "a.mha")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".tif", ".tiff"])
def test_photographs(tmp_path: Path, ending: str) -> None:
    rgb = sitk.GetImageFromArray(np.full((12, 10, 3), (200, 100, 50), np.uint8), isVector=True)
    path = tmp_path / f"skin{ending}"
    sitk.WriteImage(rgb, str(path))
    image = read_image(path)
    assert image.GetSize() == (10, 12)
    assert image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_allclose(values(image).astype(int), values(rgb).astype(int), atol=3)  # JPEG loses a little
    tensor = to_metatensor(image)
    assert tensor.shape == (10, 12, 3)
    assert tensor.meta["original_channel_dim"] == -1
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with pytest.raises(InputError):
        read_image(path)


def test_pages_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(volume(dtype="uint8"), str(tmp_path / "a.tif"))
    with pytest.raises(InputError, match="5 pages"):
        read_image(tmp_path / "a.tif")


def test_what_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        read_image(tmp_path / "missing.nii.gz")
    with pytest.raises(InputError, match="is empty, expected one DICOM series"):
        read_image(tmp_path)
    (tmp_path / "notes.docx").write_text("nothing")
    with pytest.raises(InputError, match=r"unknown format, expected one of \.nii\.gz, \.nii, .*\.dcm"):
        read_image(tmp_path / "notes.docx")
    with pytest.raises(InputError, match="holds no DICOM image"):
        read_image(tmp_path)
    (tmp_path / "a.nrrd").touch()
    with pytest.raises(InputError, match="empty file"):
        read_image(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="leave out `series`"):
        read_image(tmp_path / "a.nrrd", series="1.2.3")


# ---- damage ----------------------------------------------------------------------------------------------------------


def written(folder: Path) -> list[tuple[Path, Path]]:
    """Small files of every format: the file to damage, and the one to read."""
    files = []
    for ending in VOLUMES:
        for compress in (False, True):
            path = folder / f"{ending[1:]}-{compress}{ending}"
            sitk.WriteImage(volume("oblique"), str(path), useCompression=compress)
            files += [(p, path) for p in folder.glob(f"{ending[1:]}-{compress}.*")]
    dicom_slice(folder / "a.dcm", 0)
    rgb = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (50, 40, 3)).astype(np.uint8), isVector=True)
    for ending in (".png", ".jpg", ".tif"):
        sitk.WriteImage(rgb, str(folder / f"rgb{ending}"))
    return files + [(folder / name, folder / name) for name in ("a.dcm", "rgb.png", "rgb.jpg", "rgb.tif")]


def attempt(path: Path) -> tuple[sitk.Image | None, str]:
    """Return the image, or None and the sentence that refuses it; anything else that is raised fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damage can hit the orientation codes
        try:
            return read_image(path), ""
        except InputError as error:
            return None, str(error)


def test_truncated_files_are_never_filled_up(tmp_path: Path) -> None:
    for damaged, path in written(tmp_path):
        content, expected = damaged.read_bytes(), read_image(path)
        for length in (1, len(content) // 3, len(content) - 40, len(content) - 1):
            damaged.write_bytes(content[:length])
            image, message = attempt(path)
            if image is None:
                assert str(path) in message
                assert "\n" not in message
            else:  # the last byte of a TIFF or of a text header may not matter
                assert length == len(content) - 1
                assert_same(image, expected)
        damaged.write_bytes(content)


def test_damaged_gzip_is_not_replaced_by_its_neighbour(tmp_path: Path) -> None:
    sitk.WriteImage(volume(), str(tmp_path / "a.nii"))  # ITK would read this one
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes())[:-40])
    with pytest.raises(InputError, match="could not be read"):
        read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".nhdr", ".mhd"])
def test_checksums_are_compared(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(volume(), str(path), useCompression=True)
    data = next((p for p in tmp_path.iterdir() if p.suffix in (".zraw",) or p.name.endswith(".raw.gz")), path)
    content = bytearray(data.read_bytes())
    content[-1 if ending.startswith(".mh") else -6] ^= 1  # in the Adler-32 of zlib, in the CRC-32 of gzip
    data.write_bytes(content)
    with pytest.raises(InputError, match="could not be read"):
        read_image(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_voxels_of_a_nifti_that_its_header_does_not_describe_are_not_dropped(tmp_path: Path, ending: str) -> None:
    path = nifti(tmp_path / f"a{ending}", np.arange(4 * 4 * 4, dtype=np.int16).reshape(4, 4, 4), np.eye(4))
    content = bytearray(gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes())
    for place, change, words in (
        (46, struct.pack("<h", 2), "128 bytes of pixels, but voxels for 64"),  # half of the slices
        (108, struct.pack("<f", 0), "damaged header .vox_offset 0"),  # so that the header would be voxels
    ):
        damaged = content[:place] + change + content[place + len(change) :]
        path.write_bytes(gzip.compress(damaged) if ending == ".nii.gz" else damaged)
        with pytest.raises(InputError, match=words):
            read_image(path)


def test_random_damage_is_refused_or_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    files = written(tmp_path)
    outcomes = {"read": 0, "refused": 0}
    for turn in range(208):
        damaged, path = files[turn % len(files)]
        original = damaged.read_bytes()
        content = bytearray(original)
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        else:
            reach = len(content) if rng.random() < 0.5 else min(400, len(content))  # the header is the fragile part
            for position in rng.integers(reach, size=rng.integers(1, 4)):
                content[position] = rng.integers(256)
        damaged.write_bytes(content)
        image, message = attempt(path)
        if image is None:
            assert message
            assert "\n" not in message
            outcomes["refused"] += 1
        else:
            assert values(image).size > 0
            outcomes["read"] += 1
        damaged.write_bytes(original)
    assert min(outcomes.values()) > 20


def test_a_huge_size_in_a_header_costs_nothing(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    path.write_bytes(gzip.compress(content))
    start = time.perf_counter()
    with pytest.raises(InputError, match="truncated or its header is damaged"):
        read_image(path)
    assert time.perf_counter() - start < 5


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def dicom_slice(
    path: Path,
    z: float,
    array: np.ndarray | None = None,
    *,
    x: float = 0,
    series: str = "1.2.826.0.1.1",
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] = (0.8, 0.7),
    slope: float = 1,
    intercept: float = -1024,
    description: str = "Thorax",
) -> Path:
    """Write one CT slice; its stored values are 100 z where none are given."""
    pydicom = pytest.importorskip("pydicom")
    array = np.full((6, 7), 100 * z).astype(np.uint16) if array is None else array
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.Modality, data.SeriesDescription, data.SeriesInstanceUID = "CT", description, series
    data.SliceThickness = 5
    data.ImagePositionPatient, data.ImageOrientationPatient = [x, 20, z], list(orientation)
    data.PixelSpacing = list(spacing)  # of rows, then of columns
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = array.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = array.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_series_is_sorted_by_position(tmp_path: Path) -> None:
    for name, z in zip("dacbe", (0, 2.5, 5, 7.5, 10), strict=True):
        dicom_slice(tmp_path / f"{name}.dcm", z, x=-10)
    (tmp_path / "c.dcm").rename(tmp_path / "no_ending")
    (tmp_path / "LICENSE").write_text("not DICOM")
    (tmp_path / ".hidden.dcm").write_text("not DICOM")
    image = read_image(tmp_path)
    assert image.GetSize() == (7, 6, 5)
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5))
    assert image.GetOrigin() == (-10, 20, 0)
    assert image.GetPixelID() == sitk.sitkInt16
    assert values(image)[:, 0, 0].tolist() == [-1024, -774, -524, -274, -24]


def test_rescaled_slices(tmp_path: Path) -> None:
    stored = np.arange(42, dtype=np.uint16).reshape(6, 7)
    image = read_image(dicom_slice(tmp_path / "a.dcm", 0, stored, slope=0.25, intercept=0))
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(values(image)[0], stored / 4)
    wide = read_image(dicom_slice(tmp_path / "a.dcm", 0, stored + 60000))  # does not fit into int16
    assert wide.GetPixelID() == sitk.sitkInt32
    np.testing.assert_array_equal(values(wide)[0], stored + 60000 - 1024.0)
    # Slopes that differ from slice to slice, as in PET: the second is not squeezed into the integers of the first.
    folder = tmp_path / "pet"
    folder.mkdir()
    dicom_slice(folder / "0.dcm", 0, stored)
    dicom_slice(folder / "1.dcm", 2, stored, slope=0.25)
    np.testing.assert_array_equal(values(read_image(folder)), [stored - 1024.0, stored / 4 - 1024])
    dicom_slice(folder / "1.dcm", 2, stored, intercept=0)  # ITK says uint16 here, int32 for the first
    both = read_image(folder)
    assert both.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(values(both), [stored - 1024.0, stored])


def test_single_slices(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", 3)
    path.rename(tmp_path / "IM0001")
    image = read_image(tmp_path / "IM0001")
    assert image.GetSize() == (7, 6, 1)
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 5))  # the thickness
    assert image.GetOrigin() == (0, 20, 3)
    assert_same(read_image(tmp_path), image)


def test_two_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    for z in (0, 1, 2):
        dicom_slice(tmp_path / f"a{z}.dcm", z)
    dicom_slice(tmp_path / "b.dcm", 9, np.zeros((4, 5)), series="1.2.826.0.1.2", description="Größe")
    with pytest.raises(InputError) as caught:
        read_image(tmp_path)
    assert "2 DICOM series" in str(caught.value)
    assert "1.2.826.0.1.1 (CT, 'Thorax', 3 slices of 7 x 6)" in str(caught.value)
    assert "1.2.826.0.1.2 (CT, 'Größe', 1 slice of 5 x 4)" in str(caught.value)
    assert read_image(tmp_path, series="1.2.826.0.1.1").GetSize() == (7, 6, 3)
    assert read_image(tmp_path, series="1.2.826.0.1.2").GetSize() == (5, 4, 1)
    with pytest.raises(InputError, match=r"no DICOM series 9\.9, choose one of: 1\.2"):
        read_image(tmp_path, series="9.9")


TILT = 2 * np.tan(np.radians(10))
SERIES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": (r"the largest gap is 4 mm, between 3\.dcm and 5\.dcm, expected 2 mm", lambda f: (f / "4.dcm").unlink()),
    "near the end": ("the largest gap is 4 mm", lambda f: (f / "6.dcm").unlink()),
    "uneven": ("unevenly spaced: the largest gap is 2.9 mm", lambda f: dicom_slice(f / "4.dcm", 8.9)),
    "duplicate": (r"4\.dcm and copy\.dcm .* the same position", lambda f: dicom_slice(f / "copy.dcm", 8)),
    "tilt": ("about 10.0 degrees", lambda f: [dicom_slice(f / f"{i}.dcm", 2 * i, x=TILT * i) for i in range(8)]),
    "size": ("7 7 x 6, 1 5 x 4", lambda f: dicom_slice(f / "4.dcm", 8, np.zeros((4, 5)))),
    "spacing": ("different pixel spacings", lambda f: dicom_slice(f / "4.dcm", 8, spacing=(0.9, 0.7))),
    "orientation": (
        r"different orientations .*7 axial \[1, 0, 0, 0, 1, 0\], 1 coronal",
        lambda f: dicom_slice(f / "4.dcm", 8, orientation=(1, 0, 0, 0, 0, -1)),
    ),
    "not orthogonal": (
        "expected two perpendicular unit vectors",
        lambda f: dicom_slice(f / "4.dcm", 8, orientation=(1, 0, 0, 0.5, 1, 0)),
    ),
    "truncated": (
        r"4\.dcm is damaged, truncated",
        lambda f: (f / "4.dcm").write_bytes((f / "4.dcm").read_bytes()[:-9]),
    ),
    "empty": (r"4\.dcm is damaged, truncated", lambda f: (f / "4.dcm").write_bytes(b"")),
}


@pytest.mark.parametrize("case", SERIES)
def test_series_that_are_not_one_regular_volume_are_refused(tmp_path: Path, case: str) -> None:
    for i in range(8):
        dicom_slice(tmp_path / f"{i}.dcm", 2 * i)
    assert read_image(tmp_path).GetSize() == (7, 6, 8)
    message, spoil = SERIES[case]
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path)


def test_rounded_positions_are_accepted(tmp_path: Path) -> None:
    for i in range(12):
        dicom_slice(tmp_path / f"{i:02}.dcm", round(0.625 * i, 1))
    assert read_image(tmp_path).GetSpacing()[2] == pytest.approx(0.625, abs=0.01)


def test_dicom_without_pixels_is_left_out(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", 0)
    content = path.read_bytes()
    ct, raw_data = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.66"
    assert ct in content[:400]
    (tmp_path / "raw.dcm").write_bytes(content.replace(ct, raw_data)[:-84])
    assert read_image(tmp_path).GetSize() == (7, 6, 1)
    with pytest.raises(InputError, match="holds no pixels"):
        read_image(tmp_path / "raw.dcm")


def test_slices_without_position_are_refused(tmp_path: Path) -> None:
    for i in range(3):
        path = dicom_slice(tmp_path / f"{i}.dcm", i)
    content = path.read_bytes()
    assert content.count(b"\x20\0\x32\0DS") == 1
    path.write_bytes(content.replace(b"\x20\0\x32\0DS", b"\x20\0\x33\0DS"))
    with pytest.raises(InputError, match=r"1 slices .* no position or orientation \(the first is 2\.dcm\)"):
        read_image(tmp_path)
    assert read_image(path).GetSize() == (7, 6, 1)


def test_multi_frame_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(volume(dtype="uint8"), str(tmp_path / "a.dcm"))
    with pytest.raises(InputError, match="multi-frame"):
        read_image(tmp_path / "a.dcm")


def test_real_series(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "volumes" / "LCTSC_007_dicom"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    expected = reader.Execute()
    image = read_image(folder)
    assert image.GetPixelID() == sitk.sitkInt16
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, get)() == getattr(expected, get)()
    assert np.array_equal(values(image), values(expected))
    assert same_grid(image, read_image(data_root / "volumes" / "LCTSC_007_lung.nii.gz"))
    for file in sorted(folder.iterdir())[:9]:
        (tmp_path / file.name).symlink_to(file)
    part = read_image(tmp_path)
    assert part.GetSize() == (512, 512, 9)
    loaded = LoadImaged("image", reader=READER, dtype=None)({"image": tmp_path})["image"]
    assert loaded.dtype == torch.int16
    assert np.array_equal(loaded.numpy().T, values(part))
    np.testing.assert_allclose(loaded.affine.diagonal(), (-0.9765625, -0.9765625, 3, 1))


def test_real_single_slices(data_root: Path) -> None:
    files = sorted((data_root / "volumes" / "dicom_single_slices").glob("*.dcm"))
    assert len(files) == 4
    for file in files:
        image = read_image(file)
        assert image.GetSize() == (512, 512, 1)
        assert image.GetPixelID() == sitk.sitkInt16
        np.testing.assert_array_equal(values(image), values(sitk.ReadImage(str(file))))
    assert [read_image(f).GetSpacing()[2] for f in files] == [5, 1.25, 1, 5]
    with pytest.raises(InputError, match="4 DICOM series"):
        read_image(files[0].parent)


def test_real_mixed_orientations_are_refused(data_root: Path) -> None:
    folder = data_root / "volumes" / "dicom_mixed_orientation_series"
    with pytest.raises(InputError, match=r"19 sagittal \[0, 1, 0, 0, 0, -1\], 1 coronal"):
        read_image(folder)
    # MONAI's other readers, which LoadImage has in reserve, must not get to stack it.
    with pytest.raises(InputError, match="19 sagittal"):
        LoadImaged("image", reader=READER)({"image": folder})


# ---- MONAI -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(1, 6)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
)
def test_metatensor_and_back(seed: int, size: tuple[int, int, int], dtype: str) -> None:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, 200, size[::-1]).astype(dtype))
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(rng.uniform(0.3, 5, 3).tolist())
    image.SetOrigin(rng.uniform(-500, 500, 3).tolist())
    tensor = to_metatensor(image)
    assert tuple(tensor.shape) == size
    assert tensor.affine.dtype == torch.float64
    index = [int(rng.integers(n)) for n in size]
    assert tensor[tuple(index)].item() == image[index]
    world = tensor.affine.numpy() @ [*index, 1]
    np.testing.assert_allclose(world[:3] * (-1, -1, 1), image.TransformIndexToPhysicalPoint(index), atol=1e-9)
    back = from_metatensor(tensor, image)
    assert back.GetPixelID() == image.GetPixelID()
    np.testing.assert_array_equal(values(back), values(image))
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(back, get)() == getattr(image, get)()


def test_from_metatensor_takes_masks() -> None:
    like = volume()
    mask = np.zeros((7, 6, 5), bool)
    mask[6, 0, 3] = True
    for given_mask in (mask, torch.from_numpy(mask)):
        image = from_metatensor(given_mask, like)
        assert image.GetPixelID() == sitk.sitkUInt8
        assert image[6, 0, 3] == 1
        assert values(image).sum() == 1
    with pytest.raises(InputError, match=r"shape \(5, 6, 7\), expected \(7, 6, 5\), the size of its image"):
        from_metatensor(mask.T, like)


@pytest.mark.parametrize("frame", FRAMES)
def test_reader_agrees_with_nibabel_reader(tmp_path: Path, frame: str) -> None:
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(volume(frame), str(path))
    mine = LoadImaged("image", reader=READER)({"image": path})["image"]
    other = LoadImaged("image", reader=NibabelReader)({"image": path})["image"]
    assert mine.dtype == other.dtype
    np.testing.assert_array_equal(mine.numpy(), other.numpy())
    np.testing.assert_allclose(mine.affine.numpy(), other.affine.numpy(), atol=1e-5)
    for key in ("filename_or_obj", "space"):
        assert mine.meta[key] == other.meta[key]
    assert mine.meta["spatial_shape"].tolist() == other.meta["spatial_shape"].tolist()
    assert np.isnan(mine.meta["original_channel_dim"])
    assert np.isnan(other.meta["original_channel_dim"])
    np.testing.assert_array_equal(mine.meta["original_affine"], mine.affine)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", "/"])
def test_reader_carries_what_transforms_need(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    if ending == "/":
        path.mkdir()
        for i in range(5):
            dicom_slice(path / f"{i}.dcm", 2 * i, np.arange(42).reshape(6, 7) + i)
    else:
        sitk.WriteImage(volume("left-handed"), str(path))
    load = Compose(
        [
            LoadImaged("image", reader=READER),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
        ]
    )
    data = load({"image": path})
    assert data["image"].shape == (1, 7, 6, 5)
    data["pred"] = data["image"].clone()
    data = Invertd("pred", transform=load, orig_keys="image", nearest_interp=False)(data)
    saved = SaveImaged("pred", output_dir=tmp_path, output_ext=".nii.gz", separate_folder=False, print_log=False)(data)
    assert saved["pred"].meta["filename_or_obj"].rstrip("/") == str(path).rstrip("/")
    expected = read_image(path)
    output = read_image(tmp_path / "case_trans.nii.gz")
    assert same_grid(output, expected)
    np.testing.assert_array_equal(values(output), values(expected))


def test_reader_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(volume(), str(path))
    assert SimpleITKReader().verify_suffix([path, tmp_path])
    assert not SimpleITKReader().verify_suffix([path, tmp_path / "a.npz"])
    with pytest.raises(InputError, match="2 files"):
        LoadImaged("image", reader=READER)({"image": [path, path]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadImaged("image", reader=READER)])({"image": path})
    assert "could not be read" in str(find_input_error(caught.value))


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("ending", MASK_FORMATS)
def test_written_masks(tmp_path: Path, ending: str, frame: str) -> None:
    path = tmp_path / f"lung{ending.upper()}"
    write_image(volume(frame, "uint8"), path)
    assert_same(read_image(path), volume(frame, "uint8"))
    plain = tmp_path / f"lung{ending}"
    path.rename(plain)
    assert_same(sitk.ReadImage(str(plain)), volume(frame, "uint8"))
    assert list(tmp_path.iterdir()) == [plain]
    if ending.startswith(".nii"):
        header = nib.load(plain).header
        assert header["qform_code"] > 0
        assert header["sform_code"] > 0
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_masks_are_compressed(tmp_path: Path, ending: str) -> None:
    write_image(sitk.Image([100, 100, 10], sitk.sitkUInt8), tmp_path / f"a{ending}")
    assert (tmp_path / f"a{ending}").stat().st_size < 5000


def test_check_output(tmp_path: Path) -> None:
    check_output(tmp_path / "a.nii.gz", overwrite=False)
    with pytest.raises(InputError, match=r"unknown ending, expected one of \.nii\.gz, \.nii, \.nrrd, \.mha"):
        check_output(tmp_path / "a.dcm", overwrite=False)
    with pytest.raises(InputError, match=r"missing does not exist.*create it first"):
        check_output(tmp_path / "missing" / "a.nii", overwrite=False)
    (tmp_path / "a.mha").touch()
    with pytest.raises(InputError, match=r"exists already.*overwrite=True"):
        check_output(tmp_path / "a.mha", overwrite=False)
    check_output(tmp_path / "a.mha", overwrite=True)
    (tmp_path / "b.nrrd").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "b.nrrd", overwrite=True)


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="not writable"):
        check_output(tmp_path / "a.nii", overwrite=False)


def test_failed_writes_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(volume(), path)
    with pytest.raises(InputError, match="exists already"):
        write_image(volume("oblique"), path)
    real = sitk.WriteImage

    def interrupted(image: sitk.Image, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half")
        raise KeyboardInterrupt

    def full_disk(image: sitk.Image, name: str, **options: object) -> None:
        real(image, name, **options)  # ITK itself says nothing when it cannot write all of a NIfTI
        Path(name).write_bytes(Path(name).read_bytes()[:-10])

    for failing, error in ((interrupted, KeyboardInterrupt), (full_disk, OSError)):
        monkeypatch.setattr(sitk, "WriteImage", failing)
        with pytest.raises(error):
            write_image(volume("oblique"), path, overwrite=True)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == [path]
        assert_same(read_image(path), volume())
    write_image(volume("oblique"), path, overwrite=True)
    assert_same(read_image(path), volume("oblique"))


def test_same_grid() -> None:
    image = volume("oblique")
    assert same_grid(image, volume("oblique", "uint8"))
    assert not same_grid(image, volume("oblique", size=(7, 6, 4)))
    assert not same_grid(image, volume("axial"))
    for shift, expected in ((0.0005, True), (0.002, False)):  # of the smallest voxel side, 0.7 mm
        moved = volume("oblique")
        moved.SetOrigin((-123.456 + 0.7 * shift, 78.9, 1718.5))
        assert same_grid(image, moved) is expected
    stretched = volume("oblique")
    stretched.SetSpacing((0.7, 0.8, 2.501))  # 5 um at the far end, more than a thousandth of a voxel
    assert not same_grid(image, stretched)
