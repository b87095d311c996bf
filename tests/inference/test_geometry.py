"""Geometry: the mask of a transformed volume is the transformed mask, voxel for voxel, from file to file.

The lung bundle as it is shipped, on a real chest. It works on 112 x 112 pixels here, where 256 would show nothing
more and take five times as long; the command line is left at 256.
"""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import axes_in_mm, same_grid
from monai_r2unet.images.masks import write_mask
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.slices import axial_axis
from monai_r2unet.images.writing import write_image
from monai_r2unet.transforms.metatensor import to_metatensor
from tests.helpers.arrays import values
from tests.helpers.lung_examples import LUNG
from tests.helpers.orientations import (
    ORDERS,
    STEEPEST,
    UPRIGHT,
    assert_mask,
    rotation_matrix,
    some_rotation,
    stored,
    tilt,
    write_series,
)

ENDINGS = (".nii", ".nrrd", ".mha")
TILTED = "nearest to axial are tilted by"
Expected = tuple[sitk.Image, sitk.Image]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """One for all: nothing of an image may stay behind in it."""
    segmenter = Segmenter("lung", "cpu", batch_size=3)
    segmenter.inferer.slice_size = 112
    segmenter.bundle.image_format["scale"]["tested_pixel_mm"] = 8  # the chest is coarse, which is not the question here
    return segmenter


@pytest.fixture(scope="module")
def ct() -> sitk.Image:
    """A chest, LPS, int16 HU: 50 x 54 x 3 voxels, different along every axis in number and in spacing."""
    image = sitk.ReadImage(str(LUNG / "sample" / "images" / "LCTSC_006.nii.gz"))[28:228:4, 40:200:3, 5:11:2]
    assert image.GetSize() == (50, 54, 3)
    assert len({*np.round(image.GetSpacing(), 3)}) == 3
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    return image


@pytest.fixture(scope="module")
def expected(segmenter: Segmenter, ct: sitk.Image) -> Expected:
    """The mask and the probabilities of the chest; no flip maps the mask onto itself, so that none can be missed."""
    mask, probabilities = segmenter(ct, probabilities=True)
    array = values(mask)
    assert set(np.unique(array)) == {0, 1, 2}
    assert (np.count_nonzero(array, axis=(1, 2)) > 200).all()
    for axes in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
        assert np.count_nonzero(array != np.flip(array, axes)) > 300
    return mask, probabilities


# ---- in memory -------------------------------------------------------------------------------------------------------


def test_these_are_all_the_orders(ct: sitk.Image) -> None:
    """The examples are right: voxels and geometry move alike, as in ITK, and half of the frames are left-handed."""
    assert len(ORDERS) == len(set(ORDERS)) == 48
    hands = []
    for order in ORDERS:
        image, itk = stored(ct, order), sitk.DICOMOrient(ct, order)
        np.testing.assert_array_equal(values(image), values(itk))
        assert same_grid(image, itk)
        hands.append(round(np.linalg.det(np.reshape(image.GetDirection(), (3, 3)))))
    assert (hands.count(1), hands.count(-1)) == (24, 24)
    turned = stored(ct, "PIR", (0, 20, 10))
    assert turned[7, 1, 11] == ct[38, 7, 1]
    place = rotation_matrix((0, 20, 10)) @ ct.TransformIndexToPhysicalPoint((38, 7, 1))
    np.testing.assert_allclose(turned.TransformIndexToPhysicalPoint((7, 1, 11)), place)


@pytest.mark.parametrize("frame", ["upright", "oblique"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_in_memory(
    segmenter: Segmenter, ct: sitk.Image, expected: Expected, order: str, frame: str
) -> None:
    image = stored(ct, order, UPRIGHT if frame == "upright" else some_rotation(order))
    result = segmenter.run(image, probabilities=True)
    assert result.probabilities is not None
    for got, wanted in zip((result.mask, result.probabilities), expected, strict=True):
        np.testing.assert_array_equal(values(got), values(stored(wanted, order)))  # to the last bit
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(got, get)() == getattr(image, get)()
    assert [TILTED in sentence for sentence in result.warnings] == [True] * (tilt(image) > 20)


def padded(segmenter: Segmenter, image: sitk.Image) -> sitk.Image:
    """The mask with the chest, 391 x 316 mm, in the middle of a square of 480 mm."""
    segmenter.inferer.min_extent = 480
    try:
        return segmenter.run(image).mask
    finally:
        segmenter.inferer.min_extent = 400


@pytest.fixture(scope="module")
def expected_padded(segmenter: Segmenter, ct: sitk.Image) -> sitk.Image:
    mask = padded(segmenter, ct)
    assert (values(mask).sum((1, 2)) > 200).all()
    return mask


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_a_volume_narrower_than_the_square(
    segmenter: Segmenter, ct: sitk.Image, expected_padded: sitk.Image, order: str
) -> None:
    image = stored(ct, order, some_rotation(order))
    assert_mask(padded(segmenter, image), stored(expected_padded, order), image)


STEEP = [tuple(np.multiply(axis, sign * STEEPEST)) for axis in np.eye(3) for sign in (1, -1)]


@pytest.mark.parametrize("order", ["LPS", "RIP"])
@pytest.mark.parametrize("rotation", [*STEEP, (17.3, 17.3, 17.3), (-17.3, 17.3, -17.3)])
def test_thirty_degrees(
    segmenter: Segmenter, ct: sitk.Image, expected: Expected, rotation: tuple[float, ...], order: str
) -> None:
    image = stored(ct, order, rotation)
    assert_mask(segmenter.run(image).mask, stored(expected[0], order), image)


@pytest.mark.parametrize("space", ["RAS", "LPS"])
@pytest.mark.parametrize("order", ["LPS", "RAS", "LAS", "PIR", "SLA", "AIL"])
def test_metatensors(segmenter: Segmenter, ct: sitk.Image, expected: Expected, order: str, space: str) -> None:
    tensor = to_metatensor(stored(ct, order, (3, -4, 12)))
    if space == "LPS":
        tensor.affine = torch.diag(torch.tensor([-1, -1, 1, 1], dtype=torch.float64)) @ tensor.affine
        tensor.meta["space"] = "LPS"
    tensor.affine = tensor.affine.float()  # as other readers give it
    mask = segmenter(tensor)
    assert isinstance(mask, MetaTensor)
    np.testing.assert_array_equal(mask.numpy().T, values(stored(expected[0], order)))
    assert mask.affine.tolist() == tensor.affine.tolist()
    assert mask.meta["space"] == space


def test_an_array_is_lps(segmenter: Segmenter, ct: sitk.Image, expected: Expected) -> None:
    mask = segmenter(values(ct).T, spacing=ct.GetSpacing())
    np.testing.assert_array_equal(mask.T, values(expected[0]))


def test_the_rounding_of_spacings_does_not_change_the_mask(segmenter: Segmenter) -> None:
    """64 x 38 voxels become 112 x 66.5 pixels, where the last bit of a spacing could decide between 66 and 67."""
    image = sitk.ReadImage(str(LUNG / "sample" / "images" / "LCTSC_006.nii.gz"))[::4, 40:192:4, 6:7]
    for spacing in (7.8125, 6.1):
        image.SetSpacing((spacing, spacing, 3))
        mask = segmenter(image)
        assert mask.GetSize() == (64, 38, 1)
        assert values(mask).sum() > 200
        for seed in "abcd":
            turned = segmenter.run(stored(image, "LPS", some_rotation(seed))).mask
            np.testing.assert_array_equal(values(turned), values(mask))


# ---- slices that are not axial ---------------------------------------------------------------------------------------


def test_tilted_slices_are_told_in_one_sentence(segmenter: Segmenter, ct: sitk.Image) -> None:
    for order in ("LPS", "PIR"):
        for rotation in ((19.9, 0, 0), (0, -19.9, 0), (0, 0, 40)):  # the last within the slices
            assert segmenter.run(stored(ct, order, rotation)).warnings == []
        for rotation, degrees in (((20.6, 0, 0), 21), ((0, -44, 0), 44)):
            with pytest.warns(UserWarning, match=f"{TILTED} {degrees} degrees, .* resample the volume") as caught:
                segmenter(stored(ct, order, rotation))
            assert len(caught) == 1


def test_past_45_degrees_another_axis_is_axial_whatever_the_order(segmenter: Segmenter, ct: sitk.Image) -> None:
    orientation = Orientation(axcodes="LPS", labels=None)
    for rotation, up in {(44, 0, 0): 2, (46, 0, 0): 1, (0, 44, 0): 2, (0, -46, 0): 0, (60, 30, 50): 1}.items():
        for order in ORDERS:
            image = stored(ct, order, rotation)
            axis = axial_axis(image)
            assert order[axis] in ("LR", "PA", "SI")[up]
            last = orientation(to_metatensor(image)[None]).affine[:3, 2].numpy() * (-1, -1, 1)
            np.testing.assert_allclose(np.abs(last), np.abs(axes_in_mm(image)[:, axis]), atol=1e-9)

    noise = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 400, (18, 3, 17)).astype(np.int16))
    results = {order: segmenter.run(stored(noise, order, (46, 0, 0)), probabilities=True) for order in ("LPS", "SLA")}
    probabilities = results["LPS"].probabilities
    probabilities.CopyInformation(noise)
    np.testing.assert_array_equal(values(results["SLA"].probabilities), values(stored(probabilities, "SLA")))
    assert TILTED in results["SLA"].warnings[0]


@pytest.mark.parametrize(("order", "shape"), [("PIR", "1 x 54"), ("LIP", "50 x 1")])
def test_a_sagittal_or_coronal_slice_alone_is_refused(
    segmenter: Segmenter, ct: sitk.Image, tmp_path: Path, order: str, shape: str
) -> None:
    pytest.importorskip("pydicom")
    one = stored(ct, order)[:, :, 25:26]
    write_image(one, tmp_path / "one.nii.gz")
    for source in (tmp_path / "one.nii.gz", write_series(tmp_path / "series", one)):
        with pytest.raises(InputError, match=f"axial slices of {shape} voxels are too thin"):
            segmenter(source)


# ---- through files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_through_files(
    segmenter: Segmenter, ct: sitk.Image, expected: Expected, tmp_path: Path, order: str, ending: str
) -> None:
    image = stored(ct, order, some_rotation(order + ending))
    source, output, exact = tmp_path / f"ct{ending}", tmp_path / f"lung{ending}", ending != ".nii"
    write_image(image, source)
    read = read_image(source)
    assert_mask(read, image, image, exact)
    write_mask(segmenter.run(read).mask, output, bundle=segmenter.bundle, source=source)
    assert_mask(read_image(output), stored(expected[0], order), image, exact)


@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])  # shrinking would take minutes
@given(
    order=st.sampled_from(ORDERS),
    rotation=st.tuples(*[st.floats(-17.3, 17.3)] * 3),
    spacing=st.tuples(*[st.floats(1.5, 9)] * 3),
    origin=st.tuples(*[st.floats(-1000, 1000)] * 3),
    count=st.sampled_from([1, 2]),
    input_ending=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]),
    output_ending=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha", ".seg.nrrd"]),
)
def test_any_grid_from_any_format_to_any_other(
    segmenter: Segmenter,
    ct: sitk.Image,
    tmp_path_factory: pytest.TempPathFactory,
    order: str,
    rotation: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    count: int,
    input_ending: str,
    output_ending: str,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    source, output = folder / f"ct{input_ending}", folder / f"lung{output_ending}"
    upright = ct[:, :, :count]
    upright.SetSpacing(spacing)
    upright.SetOrigin(origin)
    image = stored(upright, order, rotation)
    sitk.WriteImage(image, str(source))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{TILTED}")
        mask, wanted = segmenter(source), segmenter(upright)
    write_mask(mask, output, bundle=segmenter.bundle, source=source)
    exact = ".nii" not in f"{source.name} {output.name}"
    assert_mask(read_image(output), stored(wanted, order), image, exact)


@pytest.mark.parametrize("frame", ["upright", "oblique"])
@pytest.mark.parametrize(
    "order",
    ["LPS", "RAS", "PIR", "ASR", "LIP", "RSP"],
    ids=["axial", "axial, prone", "sagittal", "sagittal from below", "coronal", "coronal from below"],
)
def test_through_dicom(
    segmenter: Segmenter, ct: sitk.Image, expected: Expected, tmp_path: Path, order: str, frame: str
) -> None:
    pytest.importorskip("pydicom")
    image = stored(ct, order, UPRIGHT if frame == "upright" else some_rotation(order))
    source = write_series(tmp_path / "series", image)
    read = read_image(source)
    np.testing.assert_array_equal(values(read), values(image))
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(read, get)(), getattr(image, get)(), rtol=1e-9, atol=1e-9)
    mask = segmenter.run(read).mask
    for ending in (*ENDINGS, ".nii.gz", ".seg.nrrd"):
        write_mask(mask, tmp_path / f"lung{ending}", bundle=segmenter.bundle, source=source)
        assert_mask(
            read_image(tmp_path / f"lung{ending}"), stored(expected[0], order), read, exact=".nii" not in ending
        )


def test_rounded_dicom_orientations_make_a_rectangular_grid(ct: sitk.Image, tmp_path: Path) -> None:
    """Three digits make axes that are off the right angle, and so lengths and masks that differ among formats."""
    pytest.importorskip("pydicom")
    image = stored(ct, "LPS", (17, -23, 11))
    read = read_image(write_series(tmp_path / "series", image, digits=3))
    assert read.GetSpacing()[:2] == image.GetSpacing()[:2]
    np.testing.assert_allclose(read.GetDirection(), image.GetDirection(), atol=1e-3)
    direction = np.reshape(read.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-14)
    for ending in ENDINGS:
        write_image(read, tmp_path / f"ct{ending}")
        assert_mask(read_image(tmp_path / f"ct{ending}"), read, read, exact=ending != ".nii")


def test_nrrd_in_ras(segmenter: Segmenter, ct: sitk.Image, tmp_path: Path) -> None:
    image = stored(ct, "SLA", (5, 10, -15))
    write_image(image, tmp_path / "lps.nrrd")
    mirrored = sitk.Image(image)
    mirrored.SetOrigin(np.multiply(image.GetOrigin(), (-1, -1, 1)).tolist())
    mirrored.SetDirection((np.diag((-1, -1, 1)) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    write_image(mirrored, tmp_path / "ras.nrrd")
    content = (tmp_path / "ras.nrrd").read_bytes()
    assert content.count(b"left-posterior-superior") == 1
    (tmp_path / "ras.nrrd").write_bytes(content.replace(b"left-posterior-superior", b"right-anterior-superior"))
    assert_mask(read_image(tmp_path / "ras.nrrd"), image, image)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_a_folder_of_orientations(ct: sitk.Image, tmp_path: Path) -> None:
    """In a process of its own and as shipped, at 256 x 256 pixels: three DICOM series and a file of each format."""
    pytest.importorskip("pydicom")
    chest, cases = ct[:, :, :2], tmp_path / "cases"
    cases.mkdir()
    orders = {"axial": "LPS", "sagittal": "PIR", "coronal": "LIP"}
    turned = {"nifti.nii.gz": "RSA", "nrrd.nrrd": "ILP", "meta.mha": "ALS"}
    grids = {}
    for name, order in orders.items():
        grids[name] = read_image(write_series(cases / name, stored(chest, order)))
    for name, order in turned.items():
        grids[name] = stored(chest, order, (0, 25, 3))
        write_image(grids[name], cases / name)
    command = ["segment", cases, tmp_path / "masks", "--bundle", "lung", "--device", "cpu", "--ending", ".seg.nrrd"]
    done = subprocess.run(
        [sys.executable, "-m", "monai_r2unet", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(LUNG.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    expected = Segmenter("lung", "cpu")(chest)
    assert values(expected).sum() > 500
    for name, order in (orders | turned).items():
        mask = read_image(tmp_path / "masks" / f"{name.split('.')[0]}.seg.nrrd")
        assert_mask(mask, stored(expected, order), grids[name], exact=name != "nifti.nii.gz")
    with (tmp_path / "masks" / "summary.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert {row["status"] for row in rows.values()} == {"done"}
    assert {row["voxels"] for row in rows.values()} == {str(np.count_nonzero(values(expected)))}
    told = {case for case, row in rows.items() if TILTED in row["message"]}
    assert told == {"nifti", "nrrd", "meta"}
