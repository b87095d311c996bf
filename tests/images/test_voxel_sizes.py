"""Voxel sizes of NIfTI, NRRD and MetaImage: as the header states them, in mm; none is invented."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.reading import read_image, read_image_with_notes
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.image_kinds import as_sitk
from tests.helpers.arrays import values

VOXELS = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
NAN = float("nan")
PIXDIM = 76  # its offset in a NIfTI-1 header


def nifti(
    path: Path,
    *,
    codes: tuple[int, int] = (0, 2),
    pixdim: Sequence[float] = (0.7, 0.8, 2.5),
    sform: Sequence[float] = (0.7, 0.8, 2.5),
    unit: int = 2,
    voxels: np.ndarray = VOXELS,
) -> Path:
    nib.save(nib.Nifti1Image(voxels, np.diag((*sform, 1))), path)
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    struct.pack_into("<8f", content, PIXDIM, 1, *pixdim, 0, 0, 0, 0)
    struct.pack_into("<2h", content, 252, *codes)
    content[123] = unit
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def nrrd(path: Path, *fields: str, sizes: str = "7 6 5") -> Path:
    dimension = len(sizes.split())
    header = [
        "NRRD0005",
        "type: int16",
        f"dimension: {dimension}",
        f"sizes: {sizes}",
        "endian: little",
        "encoding: raw",
    ]
    path.write_bytes("\n".join([*header, *fields, "", ""]).encode() + VOXELS.tobytes())
    return path


def metaimage(path: Path, *fields: str) -> Path:
    header = ["ObjectType = Image", "NDims = 3", "DimSize = 7 6 5", "ElementType = MET_SHORT", *fields]
    path.write_bytes("\n".join([*header, "ElementDataFile = LOCAL", ""]).encode() + VOXELS.tobytes())
    return path


# ---- NIfTI -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0)])  # without orientation, with a qform
@pytest.mark.parametrize("pixdim", [(0, 0, 0), (0.7, 0.8, 0), (0.7, 0.8, NAN), (NAN, NAN, NAN), (float("inf"), 1, 1)])
def test_a_nifti_without_size_is_refused(
    tmp_path: Path, codes: tuple[int, int], pixdim: Sequence[float], ending: str
) -> None:
    with pytest.raises(
        InputError, match=r"a\.nii.* has a voxel spacing of .* mm \(pixdim\), expected positive numbers"
    ):
        read_image(nifti(tmp_path / f"a{ending}", codes=codes, pixdim=pixdim))


def test_the_size_of_a_nifti_is_that_of_its_sform_else_of_pixdim(tmp_path: Path) -> None:
    for codes, expected in {
        (0, 0): (2, 3, 4),
        (1, 0): (2, 3, 4),
        (0, 1): (0.7, 0.8, 2.5),
        (1, 1): (0.7, 0.8, 2.5),
    }.items():
        image, notes = read_image_with_notes(nifti(tmp_path / "a.nii", codes=codes, pixdim=(2, 3, 4)))
        np.testing.assert_allclose(image.GetSpacing(), expected, rtol=1e-6)
        assert (len(notes) == 1) == (codes != (1, 0))
        if codes[1]:
            assert "two voxel sizes, 0.7 x 0.8 x 2.5 mm (sform, which is used) and 2 x 3 x 4 mm (pixdim)" in notes[0]
    image, notes = read_image_with_notes(nifti(tmp_path / "a.nii", pixdim=(0, 0, 0)))  # not needed beside the sform
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-6)
    assert notes == []


def test_1_mm_without_orientation_is_warned_of(tmp_path: Path) -> None:
    (note,) = read_image_with_notes(nifti(tmp_path / "a.nii", codes=(0, 0), pixdim=(1, 1, 1)))[1]
    assert note.endswith("the axes are taken as stored, and their size of 1 mm may be a default: check it")
    assert read_image_with_notes(nifti(tmp_path / "a.nii", pixdim=(1, 1, 1), sform=(1, 1, 1)))[1] == []


@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (1 + 8, 1000)])  # 8: seconds
def test_units_of_nifti(tmp_path: Path, unit: int, scale: float) -> None:
    stated = [size / scale for size in (0.7, 0.8, 2.5)]
    for codes in ((0, 1), (1, 0)):
        image, notes = read_image_with_notes(
            nifti(tmp_path / "a.nii", codes=codes, unit=unit, pixdim=stated, sform=stated)
        )
        np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-6)
        assert notes == []


# ---- NRRD ------------------------------------------------------------------------------------------------------------

DIRECTIONS = "space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)"
SIZED = {
    "spacings": ["spacings: 0.7 0.8 2.5"],
    "directions": ["space: left-posterior-superior", DIRECTIONS],
    "no space": ["space dimension: 3", DIRECTIONS],
    "mm": ["space: left-posterior-superior", DIRECTIONS, 'space units: "mm" "mm" "mm"'],
    "cm": ["spacings: 0.07 0.08 0.25", 'units: "cm" "cm" "cm"'],
    "m": [
        "space: left-posterior-superior",
        "space directions: (7e-4,0,0) (0,8e-4,0) (0,0,25e-4)",
        'space units: "m" "m" "m"',
    ],
}


@pytest.mark.parametrize("name", SIZED)
def test_sizes_of_nrrd(tmp_path: Path, name: str) -> None:
    image, notes = read_image_with_notes(nrrd(tmp_path / "a.nrrd", *SIZED[name]))
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-9)
    np.testing.assert_array_equal(values(image), VOXELS)
    assert notes == []


UNSIZED = {
    "nothing": [],
    "NaN": ["spacings: nan nan nan"],
    "one NaN": ["spacings: 0.7 0.8 nan"],
    "space alone": ["space: left-posterior-superior"],
    "directions of none": ["space: left-posterior-superior", "space directions: none none none"],
    "thicknesses": ["thicknesses: 3 3 3"],
    "mins": ["axis mins: 0 0 0"],
}


@pytest.mark.parametrize("name", UNSIZED)
def test_a_nrrd_without_sizes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"a\.nrrd does not say how large its voxels are.*write the spacing in mm"):
        read_image(nrrd(tmp_path / "a.nrrd", *UNSIZED[name]))


@pytest.mark.parametrize(
    "field", ["spacings: 0 0 0", "spacings: 0.7 inf 2", "space directions: (0,0,0) (0,1,0) (0,0,1)"]
)
def test_sizes_of_nrrd_that_are_none_are_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match=r"a\.nrrd has a voxel spacing of .* mm, expected positive numbers"):
        read_image(nrrd(tmp_path / "a.nrrd", *["space dimension: 3"] * ("(" in field), field))


def test_different_units_of_a_nrrd_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="axes in different units"):
        read_image(nrrd(tmp_path / "a.nrrd", "spacings: 0.7 0.8 2.5", 'units: "mm" "mm" "cm"'))


@pytest.mark.parametrize("unit", ["inch", "microns", "s"])
def test_units_that_are_unknown_are_not_taken_for_mm(tmp_path: Path, unit: str) -> None:
    units = f'space units: "mm" "mm" "{unit}"'
    for path in (
        nrrd(tmp_path / "a.nrrd", "space: left-posterior-superior", DIRECTIONS, units),
        nrrd(tmp_path / "b.nrrd", "spacings: 0.7 0.8 2.5", units.removeprefix("space ")),
        metaimage(tmp_path / "c.mha", "ElementSpacing = 0.7 0.8 2.5", f"DistanceUnits = {unit}"),
    ):
        with pytest.raises(InputError, match=f"gives sizes in {unit}, expected one of m, cm, mm, um"):
            read_image(path)


def test_the_axis_of_colours_needs_no_size(tmp_path: Path) -> None:
    colours = sitk.Compose([sitk.Cast(sitk.GetImageFromArray(VOXELS), sitk.sitkUInt8)] * 3)
    colours.SetSpacing((0.7, 0.8, 2.5))
    for ending in (".nrrd", ".mha", ".nii.gz"):
        sitk.WriteImage(colours, str(tmp_path / f"a{ending}"))
        image = read_image(tmp_path / f"a{ending}")
        assert image.GetNumberOfComponentsPerPixel() == 3
        np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-6)


# ---- MetaImage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ["ElementSpacing = 0.7 0.8 2.5"],
        ["ElementSpacing: 0.7 0.8 2.5"],
        ["ElementSize = 0.7 0.8 2.5"],
        ["ElementSize = 1 1 1", "ElementSpacing = 0.7 0.8 2.5"],
        ["ElementSpacing = 0.07 0.08 0.25", "DistanceUnits = cm"],
        ["ElementSpacing = 700 800 2500", "DistanceUnits = um"],
    ],
)
def test_sizes_of_metaimage(tmp_path: Path, fields: list[str]) -> None:
    image, notes = read_image_with_notes(metaimage(tmp_path / "a.mha", *fields))
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-9)
    np.testing.assert_array_equal(values(image), VOXELS)
    assert notes == []


@pytest.mark.parametrize("fields", [[], ["elementspacing = 0.7 0.8 2.5"], ["Offset = 0 0 0"]])
def test_a_metaimage_without_sizes_is_refused(tmp_path: Path, fields: list[str]) -> None:
    with pytest.raises(InputError, match=r"a\.mha does not say how large its voxels are.*write the spacing in mm"):
        read_image(metaimage(tmp_path / "a.mha", *fields))


@pytest.mark.parametrize("size", ["0 0 0", "0.7 0.8 0", "nan nan nan", "", "0.7 0.8", "a b c", "inf 1 1"])
def test_sizes_of_metaimage_that_are_none_are_refused(
    tmp_path: Path, size: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"voxel spacing of .* expected positive numbers|header \(ElementSpacing\)"):
        read_image(metaimage(tmp_path / "a.mha", f"ElementSpacing = {size}"))
    assert capfd.readouterr() == ("", "")  # nor does ITK say anything


def test_a_percent_sign_in_the_name_of_the_data_is_no_damage(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing((0.7, 0.8, 2.5))
    for compress in (False, True):
        sitk.WriteImage(image, str(tmp_path / "ct.mhd"), useCompression=compress)
        data = tmp_path / ("ct.zraw" if compress else "ct.raw")
        renamed = data.rename(tmp_path / f"ct 50%{data.suffix}")
        header = (tmp_path / "ct.mhd").read_text().replace(data.name, renamed.name)
        (tmp_path / "ct 50%.mhd").write_text(header)
        found = read_image(tmp_path / "ct 50%.mhd")
        np.testing.assert_array_equal(values(found), VOXELS)
        assert found.GetSpacing() == (0.7, 0.8, 2.5)
        renamed.unlink()
    sitk.WriteImage(image, str(tmp_path / "dose 50%.mhd"))  # of five slices ITK leaves one
    with pytest.raises(
        InputError, match=r"dose 50%\.mhd lacks its voxels: ITK treats the % in the name .* as a pattern"
    ):
        read_image(tmp_path / "dose 50%.mhd")


# ---- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spacing", [(0.0007, 0.0008, 0.0025), (0.7, 0.8, 0.01), (700, 800, 2500), (25, 25, 5), (1, 1, 900)]
)
def test_sizes_that_no_patient_has_are_warned_of(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing(spacing)
    for ending in (".nii.gz", ".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
        (note,) = read_image_with_notes(tmp_path / f"a{ending}")[1]
        assert note.startswith(f"{tmp_path / f'a{ending}'}: the voxels are ")
        assert note.endswith("mm large, which no scan of a patient has: check their size and its unit")


def test_the_grid_that_libraries_give_an_array_is_warned_of() -> None:
    voxels = np.zeros((32, 32, 4), np.int16)
    plain, tensor = sitk.GetImageFromArray(voxels.T), MetaTensor(torch.from_numpy(voxels))
    for image in (plain, tensor):
        with pytest.warns(UserWarning, match="the grid that libraries give an array, with voxels of 1 mm"):
            as_sitk(image, channels=1)
    plain.SetOrigin((-16, -16, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_sitk(plain, channels=1)
        as_sitk(voxels, channels=1, spacing=(1, 1, 1))


def test_sizes_from_memory_are_warned_of_too() -> None:
    segmenter = Segmenter("lung", "cpu")
    ct = np.full((64, 64, 1), -1000, np.int16)
    ct[20:40, 20:40] = 50
    with pytest.warns(UserWarning, match=r"the voxels are 0\.004 x 0\.004 x 0\.003 mm large"):
        segmenter(ct, spacing=(0.004, 0.004, 0.003))


def test_a_flat_image_is_warned_of(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS)[:, :, 2]
    for ending in (".nii.gz", ".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
        found, notes = read_image_with_notes(tmp_path / f"a{ending}")
        assert found.GetSize() == (7, 6, 1)
        assert notes == [f"{tmp_path / f'a{ending}'} has no slice thickness, so millilitres are computed for 1 mm"]
    write_image(image, tmp_path / "b.nii.gz")  # silently: what is written is not measured
    assert values(read_image_with_notes(nifti(tmp_path / "c.nii", voxels=VOXELS[..., :1]))[0]).shape == (1, 6, 5)


@pytest.mark.parametrize("encoding", ["bzip2", "zrl", ""])
def test_an_encoding_of_nrrd_that_cannot_be_read_is_no_damage(tmp_path: Path, encoding: str) -> None:
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nspacings: 1 1 1\nendian: little\nencoding: {encoding}\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(16))
    with pytest.raises(InputError, match=rf"encoding {encoding or 'not stated'}\), expected raw, gzip, ascii or hex"):
        read_image(tmp_path / "a.nrrd")
