"""Every scalar type that ITK, numpy and torch know gives the right mask or one sentence, by every way in."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, Orientationd

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.errors import InputError
from monai_r2unet.images.reading import read_image
from monai_r2unet.transforms.metatensor import SimpleITKReader, to_metatensor
from tests.apps.worker.worker_process import NOISY, Client
from tests.helpers.arrays import values
from tests.helpers.lung_examples import small_ct

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
TYPES = [*INTEGERS, "float32", "float64"]


def array_of(dtype: str) -> np.ndarray:
    """A chest, as HU where the type holds them, else brighter, as CT without its rescale intercept; (Z, Y, X)."""
    hu = values(small_ct(slices=2)).astype(np.int64)
    if dtype == "uint8":
        return np.asarray(((hu + 1024) // 8).clip(0, 255).astype(dtype))
    if dtype == "int8":
        return np.asarray((hu // 16).clip(-128, 127).astype(dtype))
    return np.asarray((hu + 1024 if dtype.startswith("u") else hu).clip(-1024, 4000).astype(dtype))


def image_of(dtype: str, axes: str = "LPS") -> sitk.Image:
    image = sitk.GetImageFromArray(array_of(dtype))
    image.CopyInformation(small_ct(slices=2))
    return sitk.DICOMOrient(image, axes)


def mask_of(segmenter: Segmenter, dtype: str, axes: str = "LPS", *, clean_up: bool = True) -> np.ndarray:
    """The mask of the same values as float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the values
        return values(segmenter(sitk.Cast(image_of(dtype, axes), sitk.sitkFloat32), clean_up=clean_up))


@pytest.mark.filterwarnings("ignore:the values:UserWarning")
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_from_memory(segmenter: Segmenter, dtype: str, axes: str) -> None:
    image, expected = image_of(dtype, axes), mask_of(segmenter, dtype, axes)
    np.testing.assert_array_equal(values(segmenter(image)), expected)
    tensor = to_metatensor(image)
    assert tensor.numpy().dtype == dtype
    np.testing.assert_array_equal(segmenter(tensor).numpy().T, expected)
    if axes == "LPS":
        array = array_of(dtype).T
        for same in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
            np.testing.assert_array_equal(segmenter(same, spacing=image.GetSpacing()).T, expected)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", "dicom"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_from_a_file_by_command(
    segmenter: Segmenter,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    ending: str,
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces
    monkeypatch.setattr("monai_r2unet.apps.cli.segment._segmenter", lambda options: segmenter)
    path = tmp_path / f"ct{ending}"
    if ending == "dicom":
        if dtype not in ("uint8", "uint16", "int16"):
            pytest.skip("not a type of DICOM images")
        path = tmp_path / "ct.dcm"
        sitk.WriteImage(image_of(dtype)[:, :, :1], str(path))
        data = pytest.importorskip("pydicom").dcmread(path)
        data.PixelSpacing = list(small_ct().GetSpacing()[:2])  # which ITK writes elsewhere
        data.save_as(path)
    else:
        sitk.WriteImage(image_of(dtype), str(path))
    code = main(["segment", str(path), str(tmp_path / "mask.nrrd"), "--bundle", "lung"])
    err = capfd.readouterr().err
    one_slice = ending == "dicom"  # which keeps its islands
    expected = mask_of(segmenter, dtype, clean_up=not one_slice)[: 1 if one_slice else None]
    assert code == (0 if expected.any() else 4)
    assert all(line.startswith("warning: ") for line in err.splitlines())
    np.testing.assert_array_equal(values(read_image(tmp_path / "mask.nrrd")), expected)


def test_unsigned_types_through_the_worker(segmenter: Segmenter, bundles: Path, tmp_path: Path) -> None:
    client = Client([sys.executable, "-c", NOISY, str(bundles)])
    for job, dtype in enumerate(["uint16", "uint32", "uint64"]):
        sitk.WriteImage(image_of(dtype), str(tmp_path / "ct.nrrd"))
        output = tmp_path / f"{dtype}.nii.gz"
        done = client.run(job=job, input=str(tmp_path / "ct.nrrd"), output=str(output))[-1]
        assert done["event"] == "done", done
        np.testing.assert_array_equal(values(read_image(output)), mask_of(segmenter, dtype))
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(timeout=10) == 0


def test_unsigned_types_through_a_bundles_own_transforms(tmp_path: Path) -> None:
    reader = f"{SimpleITKReader.__module__}.{SimpleITKReader.__name__}"
    for dtype, kept in {"uint16": "int32", "uint32": "int64", "uint64": "float64", "int16": "int16"}.items():
        sitk.WriteImage(image_of(dtype), str(tmp_path / "a.nrrd"))
        loaded = LoadImaged("image", reader=reader, dtype=None, ensure_channel_first=True)
        data = Orientationd("image", axcodes="LPS", labels=None)(loaded({"image": tmp_path / "a.nrrd"}))
        assert data["image"].numpy().dtype == kept
        np.testing.assert_array_equal(data["image"][0].numpy().T, array_of(dtype))


@pytest.mark.filterwarnings("ignore:the values:UserWarning")
def test_types_that_hold_no_numbers_are_refused_in_one_sentence(segmenter: Segmenter) -> None:
    array = array_of("int16").T
    for dtype in (complex, object, str, "datetime64[s]"):
        with pytest.raises(InputError, match=r"values of type .*, expected integers or floating-point numbers"):
            segmenter(array.astype(dtype), spacing=(1, 1, 1))
    with pytest.raises(InputError, match="values of type complex64"):
        segmenter(MetaTensor(torch.as_tensor(array.astype(np.complex64))))
    for kind in (sitk.sitkComplexFloat32, sitk.sitkLabelUInt8):
        with pytest.raises(InputError, match=r"pixels of type .*, expected integers or floating-point numbers"):
            segmenter(sitk.Image((32, 32, 2), kind))
    for dtype in (bool, np.float16, np.longdouble):
        assert segmenter(array.astype(dtype), spacing=(1, 1, 1)).shape == array.shape


@pytest.mark.parametrize(
    ("change", "probably"),
    [
        (
            lambda hu: hu + 1024,
            "they are probably HU + 1024, as of CT that lost its rescale intercept, so subtract 1024",
        ),
        (
            lambda hu: (hu.clip(-1000, 400) + 1000) / 1400,
            "they are probably scaled to that range, so give the CT before",
        ),
        (
            lambda hu: (hu.clip(-1000, 400) - 200) / 1200,
            "they are probably scaled to that range, so give the CT before",
        ),
        (lambda hu: ((hu.clip(-1000, 400) + 1000) // 6).round(), "they are probably grey values of a picture"),
        (lambda hu: hu - 20000, "check the rescale slope and intercept"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_named_as_what_they_probably_are(
    segmenter: Segmenter, change: object, probably: str
) -> None:
    assert callable(change)
    image = sitk.GetImageFromArray(change(array_of("float32")))
    image.SetSpacing((4, 4, 4))
    (sentence,) = segmenter.run(image).warnings
    assert "cannot be Hounsfield units" in sentence
    assert probably in sentence
