"""Fitting into the network's square."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

import monai_r2unet
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.transforms.fit import FitInPlaned, fit_in_plane, in_plane_size

Data = dict[Hashable, Any]
law = settings(deadline=None, max_examples=50)  # no deadline: a busy machine is not an error
sides = st.integers(1, 70)


class Seen:
    """A network that keeps its input."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x)
        return x

    @property
    def volume(self) -> torch.Tensor:
        """All slices as (C, X, Y, Z)."""
        return torch.cat(self.batches).permute(1, 2, 3, 0)


# ---- fitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "spacing", "fitted"),
    [
        ((512, 512), (0.7, 0.7), (256, 256)),
        ((100, 100), (3.0, 3.0), (256, 256)),
        ((256, 80), (1.0, 3.0), (256, 240)),  # nearly square anatomy in a narrow array
        ((256, 256), (1.0, 4.0), (64, 256)),
        ((512, 256), (1.0, 1.0), (256, 128)),
        ((512, 256), (-1.0, 2.0), (256, 256)),
        ((512, 1), (1.0, 1.0), (256, 1)),  # never less than a pixel
        ((512, 256), (float("nan"), 1.0), (256, 128)),  # no usable spacing: the aspect of the array
        ((512, 256), (0.0, 1.0), (256, 128)),
        ((512, 256), (float("inf"), 1.0), (256, 128)),
    ],
)
def test_in_plane_size_keeps_the_aspect_of_the_anatomy(
    shape: tuple[int, int], spacing: tuple[float, float], fitted: tuple[int, int]
) -> None:
    assert in_plane_size(256, shape, spacing) == fitted


@law
@given(sides, sides, st.floats(0.1, 9), st.floats(0.1, 9), st.integers(8, 300))
def test_the_longer_side_fills_the_square(nx: int, ny: int, dx: float, dy: float, size: int) -> None:
    fitted = in_plane_size(size, (nx, ny), (dx, dy))
    assert max(fitted) == size
    extent = (nx * dx, ny * dy)
    expected = size * min(extent) / max(extent)
    assert min(fitted) == pytest.approx(max(expected, 1), abs=0.5011)


@pytest.mark.parametrize("factor", [2, 4])
def test_fewer_pixels_are_the_mean_of_those_they_replace(factor: int) -> None:
    hounsfield = torch.randint(-1024, 3071, (2, 1, 256 * factor, 256 * factor)).float()
    fitted = fit_in_plane(hounsfield, 256, (256, 256), "image")
    assert torch.equal(fitted, hounsfield.reshape(2, 1, 256, factor, 256, factor).mean((3, 5)))


def test_a_slice_of_the_right_size_stays_as_it_is() -> None:
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(fit_in_plane(image, 64, (64, 64), "image"), image)


def test_what_is_missing_is_zero_on_the_far_side() -> None:
    image = torch.rand(1, 1, 48, 32) + 1
    fitted = fit_in_plane(image, 64, (48, 32), "image")
    assert fitted.shape == (1, 1, 64, 64)
    assert torch.equal(fitted[..., :48, :32], image)
    assert not fitted[..., 48:, :].any()
    assert not fitted[..., 32:].any()


@law
@given(sides, sides, st.integers(1, 64), st.integers(1, 64), st.integers(0, 99))
def test_masks_stay_masks_and_images_stay_in_range(nx: int, ny: int, fx: int, fy: int, seed: int) -> None:
    image = torch.rand(1, 1, nx, ny, generator=torch.Generator().manual_seed(seed))
    mask = (image > 0.5).float()
    fitted = fit_in_plane(mask, 64, (fx, fy), "mask")
    assert fitted.shape == (1, 1, 64, 64)
    assert set(fitted.unique().tolist()) <= {0.0, 1.0}
    resized = fit_in_plane(image, 64, (fx, fy), "image")[..., :fx, :fy]
    assert image.min() - 1e-5 <= resized.min()
    assert resized.max() <= image.max() + 1e-5


def oblique(spacing: tuple[float, float, float]) -> torch.Tensor:
    """An affine of this spacing, turned by 20 degrees about z."""
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(spacing)
    return torch.as_tensor(affine)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((64, 64), (1.0, 1.0)), ((128, 128), (0.7, 0.7)), ((50, 90), (2.0, 1.0)), ((30, 20), (1.0, 1.0))],
)
def test_training_sees_what_inference_sees(shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    volume = MetaTensor(torch.rand(1, *shape, 3), affine=oblique((*spacing, 5.0)))
    fitted = FitInPlaned("image", size=64, mode=["image"])({"image": volume})["image"]
    seen = Seen()
    SliceBySliceInferer(64, batch_size=2)(volume[None], seen)
    assert torch.equal(fitted, seen.volume)


def test_fitting_volumes_gives_plain_float_tensors_and_leaves_the_input_alone() -> None:
    image = MetaTensor(torch.randint(-1000, 400, (1, 60, 30, 3), dtype=torch.int16), affine=oblique((1.0, 1.0, 5.0)))
    label = MetaTensor((image.as_tensor() > -300).to(torch.uint8), affine=image.affine)
    data: Data = {"image": image, "label": label, "name": "case"}
    fitted = FitInPlaned(["image", "label"], size=32, mode=["image", "mask"])(data)
    for key in ("image", "label"):
        assert type(fitted[key]) is torch.Tensor  # the meta data would tell the wrong spacing
        assert fitted[key].dtype == torch.float32
        assert fitted[key].shape == (1, 32, 32, 3)
        assert (fitted[key][:, :, 16:] == 0).all()  # 60 x 30 mm fill 32 x 16 pixels
    assert set(fitted["label"].unique().tolist()) == {0.0, 1.0}
    assert fitted["name"] == "case"
    assert data["image"] is image
    assert image.shape == (1, 60, 30, 3)


def test_volumes_without_meta_data_keep_the_aspect_of_the_array() -> None:
    fitted = FitInPlaned("image", size=32, mode=["image"])({"image": torch.ones(1, 60, 30, 3)})["image"]
    assert fitted.sum() == 32 * 16 * 3


# ---- the lung bundle's preparation -----------------------------------------------------------------------------------


def write_padded(folder: Path, sample: Path, padding: int) -> dict[str, str]:
    """Three slices of a real CT, 240 x 200 of its pixels, with ``padding`` outside the circle of reconstruction."""
    paths = {}
    for kind in ("image", "label"):
        volume = nib.load(sample / f"{kind}s" / "LCTSC_000.nii.gz")
        values = np.asarray(volume.dataobj)[:240, 28:228, 8:11].copy()
        if kind == "image":
            x, y = np.ogrid[-1:1:240j, -1:1:200j]
            values[x**2 + y**2 > 1] = padding
        path = folder / f"{kind}_{padding}.nii.gz"
        nib.save(nib.Nifti1Image(values, volume.affine), path)
        paths[kind] = str(path)
    return paths


@pytest.fixture(scope="module")
def bundle_root(repository: Path) -> Path:
    return repository / "bundles" / "lung"


def prepared(bundle_root: Path, entry: dict[str, str]) -> dict[str, torch.Tensor]:
    parser = ConfigParser(globals={"monai_r2unet": monai_r2unet})
    parser.read_config(bundle_root / "configs" / "train.json")
    data: dict[str, torch.Tensor] = Compose(parser.get_parsed_content("volume_transforms"))(entry)
    return data


def test_every_padding_below_air_prepares_to_the_same_input(bundle_root: Path, tmp_path: Path) -> None:
    inputs = [
        prepared(bundle_root, write_padded(tmp_path, bundle_root / "sample", padding))
        for padding in (-1000, -1024, -2000, -3024)
    ]
    assert inputs[0]["image"].shape == (1, 256, 256, 3)
    assert inputs[0]["label"].sum() > 1000
    for other in inputs[1:]:
        assert torch.equal(other["image"], inputs[0]["image"])
        assert torch.equal(other["label"], inputs[0]["label"])


def test_the_lung_bundle_trains_on_what_it_infers_on(bundle_root: Path, tmp_path: Path) -> None:
    entry = write_padded(tmp_path, bundle_root / "sample", -2000)
    parser = ConfigParser(globals={"monai_r2unet": monai_r2unet})
    parser.read_config(bundle_root / "configs" / "inference.json")
    seen = Seen()
    image = parser.get_parsed_content("preprocessing")({"image": entry["image"]})["image"]
    parser.get_parsed_content("inferer")(image[None], seen)
    torch.testing.assert_close(prepared(bundle_root, entry)["image"], seen.volume, rtol=0, atol=1e-6)
