"""Densities of phantoms with known values."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_r2unet.metrics.densitometry import densitometry


def images(hu: np.ndarray, labels: np.ndarray, spacing=(2.0, 2.0, 5.0)) -> tuple[sitk.Image, sitk.Image]:
    """CT and label map of arrays (Z, Y, X)."""
    ct, mask = sitk.GetImageFromArray(hu), sitk.GetImageFromArray(labels.astype(np.uint8))
    ct.SetSpacing(spacing)
    mask.CopyInformation(ct)
    return ct, mask


def test_a_phantom_of_known_densities():
    hu = np.full((6, 12, 12), 40, np.int16)
    labels = np.zeros(hu.shape)
    labels[1:5, 1:11, 1:11] = 1  # 400 voxels
    inside = np.repeat([-951, -950, -900, -500, -200, 100, 101, -870], [40, 20, 60, 80, 30, 10, 20, 140])
    hu[1:5, 1:11, 1:11] = np.random.default_rng(0).permutation(inside).reshape(4, 10, 10)
    numbers = densitometry(*images(hu, labels), {1: "lung"})["lung"]
    assert numbers["volume_ml"] == pytest.approx(400 * 0.02)
    assert numbers["laa950_percent"] == pytest.approx(10)  # -950 itself is not below
    assert numbers["opacified_percent"] == pytest.approx(100 * 120 / 400)  # -500 and 100 included, 101 not
    assert numbers["p15_hu"] == pytest.approx(np.percentile(inside, 15))
    assert numbers["mean_hu"] == pytest.approx(inside.mean())
    assert numbers["median_hu"] == -870
    assert numbers["std_hu"] == pytest.approx(inside.std())
    assert numbers["touches_border"] == []
    histogram = dict(zip(numbers["histogram"]["edges_hu"], numbers["histogram"]["voxels"], strict=False))
    assert histogram[-1000] == 40
    assert histogram[-950] == 20  # an edge belongs to the bin above it
    assert sum(histogram.values()) == 400
    assert list(numbers["histogram"]["edges_hu"])[-1] == 200


def test_what_is_beyond_the_histogram_counts_in_its_ends():
    hu = np.array([[[-3024, -1000, 200, 3000]]], np.int16)
    numbers = densitometry(*images(hu, np.ones(hu.shape)), {1: "lung"})["lung"]
    assert numbers["histogram"]["voxels"][0] == 2
    assert numbers["histogram"]["voxels"][-1] == 2


def test_each_label_and_both_together():
    hu = np.full((4, 6, 6), 0, np.int16)
    labels = np.zeros(hu.shape)
    labels[1:3, 1:5, 1:3], labels[1:3, 1:5, 3:5] = 1, 2
    hu[labels == 1], hu[labels == 2] = -800, -600
    numbers = densitometry(*images(hu, labels), {1: "right lung", 2: "left lung"})
    assert [numbers[name]["mean_hu"] for name in ("right lung", "left lung", "total")] == [-800, -600, -700]
    assert numbers["total"]["volume_ml"] == pytest.approx(32 * 0.02)


def test_a_label_without_a_voxel_has_no_densities():
    hu = np.zeros((4, 4, 4), np.int16)
    labels = np.zeros(hu.shape)
    labels[1, 1, 1] = 1
    numbers = densitometry(*images(hu, labels), {1: "right lung", 2: "left lung"})["left lung"]
    assert numbers["volume_ml"] == 0
    assert numbers["mean_hu"] is None
    assert numbers["laa950_percent"] is None
    assert not any(numbers["histogram"]["voxels"])


def test_voxels_that_are_not_finite_count_in_the_volume_alone():
    hu = np.array([[[-800, np.nan, -700, np.inf]]], np.float32)
    numbers = densitometry(*images(hu, np.ones(hu.shape)), {1: "lung"})["lung"]
    assert numbers["volume_ml"] == pytest.approx(4 * 0.02)
    assert numbers["mean_hu"] == -750
    assert sum(numbers["histogram"]["voxels"]) == 2


def test_borders_have_anatomical_names_in_every_orientation():
    hu = np.zeros((5, 6, 7), np.int16)
    labels = np.zeros(hu.shape)
    labels[0:2, 2:4, 5:7] = 1  # the first slice, the last column
    ct, mask = images(hu, labels)
    assert densitometry(ct, mask, {1: "lung"})["lung"]["touches_border"] == ["inferior", "left"]
    for orientation in ("RAI", "PIR", "SAL", "LPS"):
        turned = [sitk.DICOMOrient(each, orientation) for each in (ct, mask)]
        assert densitometry(*turned, {1: "lung"})["lung"]["touches_border"] == ["inferior", "left"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1024, 3071), min_size=1, max_size=60))
def test_percentiles_and_shares_of_any_values(values: list[int]):
    hu = np.array(values, np.int16).reshape(1, 1, -1)
    numbers = densitometry(*images(hu, np.ones(hu.shape)), {1: "lung"})["lung"]
    assert numbers["p15_hu"] == pytest.approx(np.percentile(values, 15))
    assert numbers["laa950_percent"] == pytest.approx(100 * sum(value < -950 for value in values) / len(values))
    assert sum(numbers["histogram"]["voxels"]) == len(values)
