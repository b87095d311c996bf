"""From the contours of a mask the same mask comes back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monai_r2unet.datasets.rtstruct import fill_polygon
from monai_r2unet.images.contours import closed_contours


def filled(contours: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for contour in contours:
        mask ^= fill_polygon(contour[:, 0], contour[:, 1], shape)
    return mask


@settings(max_examples=300, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_comes_back(mask: np.ndarray):
    assert np.array_equal(filled(closed_contours(mask), mask.shape), mask)


def test_holes_are_part_of_the_contour_around_them():
    mask = np.zeros((20, 24), bool)
    mask[2:18, 3:21] = True
    mask[5:8, 6:9] = mask[11:14, 8:12] = mask[6, 15] = False
    contours = closed_contours(mask)
    assert len(contours) == 1
    assert np.array_equal(filled(contours, mask.shape), mask)


def test_straight_edges_have_no_points_between_their_ends():
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    assert len(closed_contours(mask)[0]) == 8  # each corner is cut


def test_an_empty_slice_has_no_contour():
    assert closed_contours(np.zeros((5, 6), bool)) == []
