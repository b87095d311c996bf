"""Names of files that are not UTF-8, with which ITK would end the process: read and written like any other."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import check_place, write_image
from tests.inference.cohort.cohort_examples import write_dicom

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
ODD = os.fsdecode(b"M\xfcller")


@pytest.fixture
def image() -> sitk.Image:
    values = np.arange(2 * 20 * 30, dtype=np.int16).reshape(2, 20, 30)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 2.5))
    return image


@pytest.fixture(params=["name", "folder", "both"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path without ending, which is not UTF-8 in one of its parts or both."""
    folder = tmp_path / ("cases" if request.param == "name" else ODD)
    folder.mkdir()
    return folder / ("ct" if request.param == "folder" else ODD)


def same(one: sitk.Image, other: sitk.Image) -> None:
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
    np.testing.assert_allclose(one.GetSpacing(), other.GetSpacing(), rtol=1e-6)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_images_are_written_and_read_under_any_name(place: Path, ending: str, image: sitk.Image) -> None:
    path = place.with_name(place.name + ending)
    write_image(image, path)
    same(read_image(path), image)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_headers_find_their_voxels(place: Path, ending: str, image: sitk.Image, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    sitk.WriteImage(image, str(tmp_path / "made" / f"ct{ending}"))
    for path in (tmp_path / "made").iterdir():
        shutil.copy(path, place.parent / (place.name + ending if path.suffix == ending else path.name))
    same(read_image(place.with_name(place.name + ending)), image)


def test_a_header_that_names_its_voxels_in_latin_1(tmp_path: Path, image: sitk.Image) -> None:
    sitk.WriteImage(image, str(tmp_path / "ct.mhd"))
    header = (tmp_path / "ct.mhd").read_bytes().replace(b"ct.raw", b"M\xfcller.raw")
    (tmp_path / "ct.mhd").write_bytes(header)
    (tmp_path / "ct.raw").rename(tmp_path / f"{ODD}.raw")
    same(read_image(tmp_path / "ct.mhd"), image)


def test_dicom_and_tiff_are_read_under_any_name(place: Path, image: sitk.Image, tmp_path: Path) -> None:
    write_dicom(tmp_path / "made", image)
    (tmp_path / "made").rename(place)
    for path in list(place.iterdir()):
        path.rename(place / f"{ODD}{path.name}")
    got = read_image(place)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(image))
    sitk.WriteImage(sitk.Cast(image[:, :, 0], sitk.sitkFloat32), str(tmp_path / "measured.tif"))
    (tmp_path / "measured.tif").rename(place.with_name(place.name + ".tif"))
    got = read_image(place.with_name(place.name + ".tif"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(image[:, :, 0]))


def test_usual_names_are_given_as_they_are(tmp_path: Path) -> None:
    for path in (Path("a.nrrd"), tmp_path / "肺.nrrd"):
        with itk_path(path) as name:
            assert name == str(path)


def test_names_that_are_too_long_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_place(tmp_path / ("y" * 300), overwrite=False)


def test_the_longest_names_are_written(tmp_path: Path, image: sitk.Image) -> None:
    path = tmp_path / ("y" * 248 + ".nii.gz")
    write_image(image, path)
    write_image(image, path, overwrite=True)
    same(read_image(path), image)
