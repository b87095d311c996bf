"""Transforms of photographs: standardising, cropping one size, and putting masks back onto their image's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, SaveImaged
from PIL import Image

from monai_r2unet.transforms.photographs import CropFromSized, PlaceOnd, Standardize


def fundus(border: int = 10) -> torch.Tensor:
    """A photograph (3, X, Y), uint8, of a bright square before a black surround of some width."""
    square = np.random.default_rng(0).integers(90, 250, (3, 30, 30)).astype(np.uint8)
    return torch.from_numpy(np.pad(square, ((0, 0), (border, border), (border, border))))


def test_every_channel_gets_mean_0_and_deviation_1() -> None:
    values = Standardize()(fundus())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.mean((1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.std((1, 2), correction=0), torch.ones(3), rtol=0, atol=1e-5)
    inside = Standardize(lit_only=True)(fundus(10))[:, 10:-10, 10:-10]
    torch.testing.assert_close(inside.mean((1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(inside.std((1, 2), correction=0), torch.ones(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lit_only", [False, True])
def test_bits_and_light_do_not_matter(lit_only: bool) -> None:
    standardize = Standardize(lit_only)
    expected = standardize(fundus())
    deep = torch.from_numpy(fundus().numpy().astype(np.uint16).astype(np.int32) * 257)
    torch.testing.assert_close(standardize(deep), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(standardize(fundus() * 0.3), expected, rtol=0, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(border=st.integers(0, 60))
def test_the_width_of_the_black_surround_does_not_matter(border: int) -> None:
    expected = Standardize(lit_only=True)(fundus(0))
    values = Standardize(lit_only=True)(fundus(border))
    torch.testing.assert_close(values[:, border : border + 30, border : border + 30], expected, rtol=0, atol=1e-5)


def test_a_batch_is_its_photographs() -> None:
    batch = torch.stack([fundus().float(), fundus().flip(1).float() / 2 + 20])
    for lit_only in (False, True):
        standardize = Standardize(lit_only)
        for one, whole in zip(map(standardize, batch), standardize(batch), strict=True):
            torch.testing.assert_close(one, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lit_only", [False, True])
@pytest.mark.parametrize("value", [0, 255])
def test_a_photograph_of_one_colour_becomes_zero(lit_only: bool, value: int) -> None:
    assert not Standardize(lit_only)(torch.full((3, 20, 20), value, dtype=torch.uint8)).any()


def test_only_photographs_of_one_size_are_cropped() -> None:
    crop = CropFromSized(["image", "fov"], [565, 584], [0, 9], [565, 574], allow_missing_keys=True)
    image = torch.arange(565 * 584).reshape(1, 565, 584)
    cropped = crop({"image": image})
    assert torch.equal(torch.as_tensor(cropped["image"]), image[:, :, 9:574])
    assert list(cropped) == ["image"]
    for shape in ((1, 584, 565), (1, 565, 565)):
        assert crop({"image": torch.zeros(shape)})["image"].shape == shape


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # what MONAI says of a decoder that is not used
def test_a_mask_is_placed_on_the_grid_of_its_image_and_saved_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "eye.jpg"
    Image.fromarray(fundus().movedim(0, -1).numpy()[:, :40]).save(path)  # upright, 50 rows of 40 pixels
    load = Compose(
        [LoadImaged("image", "monai_r2unet.transforms.metatensor.SimpleITKReader"), EnsureChannelFirstd("image")]
    )
    image = load({"image": path})["image"]
    mask = (image[:1] > 128).to(torch.uint8).as_tensor()
    placed = PlaceOnd("pred")({"image": image, "pred": mask})["pred"]
    assert torch.equal(placed.as_tensor(), mask)
    assert torch.equal(placed.affine, image.affine)
    save = SaveImaged(
        "pred",
        output_dir=tmp_path,
        output_postfix="mask",
        output_ext=".png",
        output_dtype=np.uint8,
        scale=255,
        separate_folder=False,
        resample=False,
        print_log=False,
    )
    save({"pred": placed})
    saved = np.asarray(Image.open(tmp_path / "eye_mask.png"))
    np.testing.assert_array_equal(saved, 255 * mask[0].T.numpy())
    placed.meta["filename_or_obj"] = "other"
    assert image.meta["filename_or_obj"] == str(path)
