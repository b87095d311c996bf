"""Right and left lung of phantoms, in every orientation."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from monai_r2unet import Segmenter
from monai_r2unet.images.components import remove_beside_body
from monai_r2unet.images.sides import LEFT, RIGHT, split_sides
from monai_r2unet.metrics import confusion
from monai_r2unet.transforms.components import SplitSidesd
from monai_r2unet.transforms.metatensor import to_metatensor
from tests.helpers.lung_examples import LUNG


def chest(joined: int = 0, shift: int = 0, depth: int = 12) -> tuple[sitk.Image, np.ndarray]:
    """CT of a body with two lungs of different size, and their sides (Z, Y, X), in LPS.

    The lungs touch over ``joined`` slices; the body lies ``shift`` pixels off the image's centre.
    """
    z, y, x = np.meshgrid(np.arange(depth), np.arange(60), np.arange(90), indexing="ij")
    body = ((x - 45 - shift) / 36) ** 2 + ((y - 30) / 24) ** 2 < 1
    right = ((x - 30 - shift) / 13) ** 2 + ((y - 30) / 18) ** 2 < 1
    left = ((x - 61 - shift) / 12) ** 2 + ((y - 30) / 16) ** 2 < 1
    bridge = (np.abs(y - 22) <= 1) & (np.abs(x - 46 - shift) <= 8) & (z >= 2) & (z < 2 + joined)
    sides = np.where(right, RIGHT, np.where(left, LEFT, 0))
    sides[bridge & (sides == 0)] = np.where(x < 46 + shift, RIGHT, LEFT)[bridge & (sides == 0)]
    hu = np.where(body, 40, -1000)
    hu[sides > 0] = -850
    ct = sitk.GetImageFromArray(hu.astype(np.int16))
    ct.SetSpacing((4.0, 4.0, 5.0))
    return ct, sides.astype(np.uint8)


def mask_of(sides: np.ndarray, ct: sitk.Image) -> sitk.Image:
    mask = sitk.GetImageFromArray((sides > 0).astype(np.uint8))
    mask.CopyInformation(ct)
    return mask


@pytest.mark.parametrize("shift", [-6, 0, 5])
def test_lungs_that_do_not_touch(shift: int):
    ct, sides = chest(shift=shift)
    assert np.array_equal(sitk.GetArrayFromImage(split_sides(ct, mask_of(sides, ct))), sides)


@pytest.mark.parametrize("joined", [1, 5])
def test_lungs_that_touch_are_parted_between_them(joined: int):
    ct, sides = chest(joined=joined)
    found = sitk.GetArrayFromImage(split_sides(ct, mask_of(sides, ct)))
    assert np.array_equal(found > 0, sides > 0)
    wrong = np.argwhere((found != sides) & (sides > 0))
    assert np.all(np.abs(wrong[:, 2] - 46) <= 4)  # within the bridge alone
    assert len(wrong) <= 3 * 4 * joined


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_one_lung_is_on_its_side(side: int):
    ct, sides = chest()
    sides[sides != side] = 0
    assert np.array_equal(sitk.GetArrayFromImage(split_sides(ct, mask_of(sides, ct))), sides)


def test_a_single_slice():
    ct, sides = chest(joined=12, depth=12)
    found = sitk.GetArrayFromImage(split_sides(ct[:, :, 5:6], mask_of(sides, ct)[:, :, 5:6]))[0]
    assert np.mean(found != sides[5]) < 0.005
    assert np.array_equal(found > 0, sides[5] > 0)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_all_orders_and_flips_of_the_axes(axes: tuple[int, ...], flips: tuple[bool, ...]):
    ct, sides = chest(joined=3)
    expected = split_sides(ct, mask_of(sides, ct))
    turned_ct, turned_mask, turned = (
        sitk.Flip(sitk.PermuteAxes(image, axes), flips) for image in (ct, mask_of(sides, ct), expected)
    )
    found = split_sides(turned_ct, turned_mask)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(turned))
    assert np.allclose(found.GetDirection(), turned_mask.GetDirection())
    assert np.allclose(found.GetOrigin(), turned_mask.GetOrigin())


def test_an_empty_mask_stays_empty():
    ct, sides = chest()
    assert not sitk.GetArrayFromImage(split_sides(ct, mask_of(sides * 0, ct))).any()


@pytest.mark.parametrize("joined", [1, 5])
def test_fine_pixels_are_parted_where_coarse_ones_are(joined: int):
    ct, sides = chest(joined=joined)
    fine_ct, fine_mask = (fine(image) for image in (ct, mask_of(sides, ct)))
    found = sitk.GetArrayFromImage(split_sides(fine_ct, fine_mask))
    expected = sides.repeat(7, axis=1).repeat(7, axis=2)[:, :-3, :-5]
    assert np.array_equal(found > 0, expected > 0)
    wrong = np.argwhere((found != expected) & (expected > 0))
    assert np.all(np.abs(wrong[:, 2] / 7 - 46) <= 4.5)
    assert len(wrong) <= 3 * 4 * joined * 49


def fine(image: sitk.Image) -> sitk.Image:
    """The image in pixels of 4/7 mm, without the last few: its size is no multiple of anything."""
    array = sitk.GetArrayFromImage(image).repeat(7, axis=1).repeat(7, axis=2)[:, :-3, :-5]
    result = sitk.GetImageFromArray(array)
    result.SetSpacing((4 / 7, 4 / 7, 5.0))
    return result


def test_the_transform_of_a_bundle_tells_them_apart_and_keeps_type_and_metadata():
    ct, sides = chest(joined=3)
    image = to_metatensor(ct)[None]
    pred = MetaTensor(torch.from_numpy((sides > 0).astype(np.float32).T.copy())[None], meta=image.meta)
    told_apart = SplitSidesd("pred", "image")({"image": image, "pred": pred})["pred"]
    assert told_apart.dtype == torch.float32
    assert torch.equal(told_apart.affine, image.affine)
    expected = sitk.GetArrayFromImage(split_sides(ct, mask_of(sides, ct)))
    np.testing.assert_array_equal(told_apart[0].numpy().T, expected)


@pytest.mark.parametrize("order", ["LPS", "RAS", "SRA", "PIL"])
def test_the_lung_bundle_finds_right_and_left_in_its_sample_however_it_is_stored(order: str):
    sample = LUNG / "sample"
    image, truth = (sitk.ReadImage(str(sample / kind / "LCTSC_008.nii.gz")) for kind in ("images", "labels"))
    result = Segmenter("lung", "cpu").run(sitk.DICOMOrient(image, order))
    found = sitk.GetArrayFromImage(sitk.DICOMOrient(result.mask, "LPS"))
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(split_sides(image, truth), "LPS"))
    assert [label["name"] for label in result.by_label] == ["right lung", "left lung"]
    for side in (RIGHT, LEFT):
        assert confusion(found == side, expected == side).dice > 0.97
    assert np.count_nonzero((found > 0) & (expected > 0) & (found != expected)) < 1e-3 * np.count_nonzero(expected)


@pytest.mark.parametrize("spacing", [(1e-24, 4.0, 90.0), (1e6, 1e6, 1e6), (1e-6, 1e-6, 5.0)])
def test_voxels_of_no_patient_end_in_some_mask(spacing: tuple[float, ...]):
    ct, sides = chest(joined=3)
    mask = mask_of(sides, ct)
    for image in (ct, mask):
        image.SetSpacing(spacing)
    found = sitk.GetArrayFromImage(split_sides(ct, remove_beside_body(ct, mask)))
    assert set(np.unique(found)) <= {0, RIGHT, LEFT}


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 5.0), (1.0, 1.0, 1.0), (1.5, 1.5, 3.0), (2.5, 2.5, 5.0)])
def test_a_spacing_that_a_file_format_rounds_changes_no_voxel(spacing: tuple[float, ...]):
    """Many voxels of a bridge are equally far from both lungs."""
    ct, sides = chest(joined=12)
    mask = mask_of(sides, ct)
    found = []
    for change in (0, 2.5e-7, -2.5e-7):
        for image in (ct, mask):
            image.SetSpacing([spacing[0] * (1 + change), spacing[1] * (1 - change), spacing[2]])
        found.append(sitk.GetArrayFromImage(split_sides(ct, mask)))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
