"""Islands go, large parts stay, and each part gets one label."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from monai_r2unet.images.components import bounding_box, remove_islands

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
