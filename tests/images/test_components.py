"""Islands go, large parts stay, and what lies beside the body goes."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from monai_r2unet.images.components import beside_body, bounding_box, remove_beside_body, remove_islands

RIGHT, LEFT = 1, 2


def chest() -> np.ndarray:
    """Two lungs of 2,000 voxels each that touch along a plane."""
    labels = np.zeros((30, 20, 12), np.uint8)
    labels[5:15, 4:14, 1:11] = RIGHT
    labels[15:25, 4:14, 1:11] = LEFT
    return labels


def test_islands_go_and_lungs_stay():
    labels = chest()
    with_islands = labels.copy()
    with_islands[0:2, 0:2, 0:2] = RIGHT
    with_islands[28, 18, 5] = LEFT
    assert np.array_equal(remove_islands(with_islands, 0.02), labels)


def test_a_lung_in_two_large_parts_keeps_both():
    labels = chest()
    labels[5:15, 4:14, 4:7] = 0  # consolidation from front to back
    assert np.array_equal(remove_islands(labels, 0.02), labels)


def test_one_lung_alone_stays():
    labels = chest()
    labels[labels == LEFT] = 0
    assert np.array_equal(remove_islands(labels, 0.02), labels)


def test_a_patch_of_the_other_side_follows_its_lung():
    labels = chest()
    labels[7:9, 6:9, 3:5] = LEFT  # inside the right lung
    assert np.array_equal(remove_islands(labels, 0.02), chest())


def test_a_patch_between_patches_follows_them():
    labels = chest()
    labels[5:13, 14:15, 5] = LEFT  # a ridge on the right lung ...
    labels[5:13, 15:16, 5] = RIGHT  # ... and one on the ridge, which touches no lung
    expected = chest()
    expected[5:13, 14:16, 5] = RIGHT
    assert np.array_equal(remove_islands(labels, 0.02), expected)


def test_a_large_part_of_the_other_side_keeps_its_label():
    labels = chest()
    labels[5:15, 4:9, 1:11] = LEFT
    assert np.array_equal(remove_islands(labels, 0.02), labels)


def test_a_mask_of_small_parts_keeps_the_largest():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[::4, ::4, ::4] = 1
    labels[4, 4, 4:6] = 1
    expected = np.zeros_like(labels)
    expected[4, 4, 4:6] = 1
    assert np.array_equal(remove_islands(labels, 0.5), expected)


def test_an_empty_mask_stays_empty():
    empty = np.zeros((4, 5, 6), np.uint8)
    assert np.array_equal(remove_islands(empty, 0.02), empty)
    assert bounding_box(empty) is None


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([0, 0, 0, 1, 2])),
    st.floats(0, 1),
    st.permutations([0, 1, 2]),
)
def test_laws_of_any_mask(labels: np.ndarray, least_share: float, axes: list[int]):
    before = labels.copy()
    cleaned = remove_islands(labels, least_share)
    assert np.array_equal(labels, before)
    assert not cleaned[labels == 0].any()  # nothing is added
    sizes = [np.bincount(ndimage.label(labels == value)[0].ravel())[1:] for value in (1, 2)]
    least = min(least_share * np.count_nonzero(labels), max(map(int, np.concatenate(sizes)), default=0))
    for value in (1, 2):
        assert (np.bincount(ndimage.label(cleaned == value)[0].ravel())[1:] >= least).all()
    turned = remove_islands(np.ascontiguousarray(labels.transpose(axes)), least_share)
    assert np.array_equal(turned > 0, cleaned.transpose(axes) > 0)


# ---- beside the body -------------------------------------------------------------------------------------------------


def lying_on_a_cushion() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU (Z, Y, X) of a body on a cushion, in pixels of 3 mm, the mask with the cushion in it, and that of the lungs.

    The back is hollow, so that a part of the cushion reaches into the hull of the body. A couch touches it.
    """
    _, y, x = np.meshgrid(np.arange(10), np.arange(90), np.arange(120), indexing="ij")
    body = (((x - 60) / 48) ** 2 + ((y - 36) / 30) ** 2 < 1) & (((x - 60) / 12) ** 2 + ((y - 68) / 7) ** 2 > 1)
    lungs = (((x - 38) / 14) ** 2 + ((y - 34) / 18) ** 2 < 1) | (((x - 84) / 13) ** 2 + ((y - 34) / 17) ** 2 < 1)
    cushion = (np.abs(x - 60) < 18) & (y > 64) & (y < 84) & ~body
    hu = np.where(body, 30, -1000)
    hu[lungs] = -850
    hu[cushion] = -930
    hu[:, 85:87] = 100  # the couch
    return hu.astype(np.int16), (lungs | cushion).astype(np.uint8), lungs.astype(np.uint8)


SPACING = (5.0, 3.0, 3.0)


def test_a_cushion_is_beside_the_body_and_lungs_are_not() -> None:
    hu, mask, lungs = lying_on_a_cushion()
    np.testing.assert_array_equal(beside_body(hu, mask, SPACING), (mask > 0) & (lungs == 0))
    assert not beside_body(hu, lungs, SPACING).any()


@pytest.mark.parametrize("cut", [np.s_[:, :, :60], np.s_[:, :, 40:], np.s_[:, 20:, 30:95], np.s_[3:5, 10:60, 10:110]])
def test_lungs_that_the_scan_cuts_stay(cut: tuple[slice, ...]) -> None:
    hu, _, lungs = lying_on_a_cushion()
    assert lungs[cut].any()
    assert not beside_body(hu[cut], lungs[cut], SPACING).any()


def test_in_a_single_slice_nothing_is_beside_the_body() -> None:
    hu, mask, _ = lying_on_a_cushion()
    assert not beside_body(hu[:1], mask[:1], SPACING).any()


@pytest.mark.parametrize("order", ["LPS", "RAI", "SPL", "PIR"])
def test_it_is_found_however_the_volume_is_stored(order: str) -> None:
    hu, mask, lungs = lying_on_a_cushion()
    images = []
    for array in (hu, mask, lungs):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING[::-1])
        images.append(sitk.DICOMOrient(image, order))
    ct, found, expected = images
    cleaned = remove_beside_body(ct, found)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cleaned), sitk.GetArrayFromImage(expected))
    assert cleaned.GetOrigin() == found.GetOrigin()
    assert cleaned.GetDirection() == found.GetDirection()
