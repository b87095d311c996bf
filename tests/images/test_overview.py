"""The picture of a case shows the mask where it is."""

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.images.overview import GAP, PANEL, overview

LABELS = [{"value": 1, "colour": [128, 174, 128]}, {"value": 2, "colour": [0, 0, 90]}]
GREEN, BLUE = (0, 255, 0), (0, 0, 255)


def volume() -> tuple[sitk.Image, sitk.Image]:
    """A scan of 100 mm to each side with a right and a smaller left label."""
    values, labels = np.full((20, 50, 50), 40, np.int16), np.zeros((20, 50, 50), np.uint8)
    labels[4:16, 10:40, 5:20], labels[4:16, 10:40, 30:40] = 1, 2
    values[labels > 0] = -800
    image, mask = sitk.GetImageFromArray(values), sitk.GetImageFromArray(labels)
    image.SetSpacing((2.0, 2.0, 5.0))
    mask.CopyInformation(image)
    return image, mask


def columns_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((picture == colour).all(-1).any(0))


def test_five_panels_with_the_right_side_on_the_left():
    picture = np.array(overview(*volume(), LABELS, (-1350, 150)))
    assert picture.shape == (PANEL, 5 * PANEL + 4 * GAP, 3)
    for panel in range(4):  # three axial ones and the coronal one
        shown = picture[:, panel * (PANEL + GAP) :][:, :PANEL]
        assert columns_of(shown, GREEN).max() < columns_of(shown, BLUE).min()
    sagittal = picture[:, 4 * (PANEL + GAP) :]
    assert columns_of(sagittal, GREEN).size  # through the larger label
    assert not columns_of(sagittal, BLUE).size


@pytest.mark.parametrize("orientation", ["RAI", "SAL", "PIR"])
def test_every_orientation_gives_the_same_picture(orientation: str):
    turned = [sitk.DICOMOrient(each, orientation) for each in volume()]
    expected = overview(*volume(), LABELS, (-1350, 150))
    assert np.array_equal(overview(*turned, LABELS, (-1350, 150)), expected)


def test_the_head_is_on_top():
    image, mask = volume()
    lower = sitk.GetArrayFromImage(mask)
    lower[10:] = 0
    values = sitk.GetArrayFromImage(image)
    values[16:] = 3000
    image, mask = (
        sitk.GetImageFromArray(values),
        sitk.GetImageFromArray(lower),
    )
    coronal = np.array(overview(image, mask, LABELS, (-1350, 150)))[:, 3 * (PANEL + GAP) :][:, :PANEL]
    bright = np.flatnonzero((coronal == 255).all(-1).mean(1) > 0.8)
    green = np.flatnonzero((coronal == GREEN).all(-1).any(1))
    assert bright.max() < green.min()


def test_an_empty_mask_and_a_photograph_have_pictures():
    image, mask = volume()
    empty = np.array(overview(image, mask * 0, LABELS, None))
    assert empty.shape == (PANEL, 5 * PANEL + 4 * GAP, 3)
    photograph = sitk.GetImageFromArray(np.full((60, 90, 3), 120, np.uint8), isVector=True)
    found = np.zeros((60, 90), np.uint8)
    found[20:40, 30:60] = 1
    picture = np.array(overview(photograph, sitk.GetImageFromArray(found), LABELS, (0, 255)))
    assert picture.shape == (round(PANEL * 60 / 90), PANEL, 3)
    assert tuple(picture[5, 5]) == (120, 120, 120)
    assert 0.3 < columns_of(picture, GREEN).min() / PANEL < 0.36
