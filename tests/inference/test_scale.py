"""Scale: every image is brought to the scale that its network knows, in training as in use."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from PIL import Image
from torch.nn import functional

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.field_of_view import field_of_view_diameter
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_png
from monai_r2unet.inference.checks import scale_by_hand, unfamiliar_scale
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.transforms.fit import (
    FitInPlaned,
    ScaleFieldOfViewd,
    field_of_view_scale,
    fit_in_plane,
    in_plane_size,
    place_in_square,
    rescale,
)
from tests.helpers.arrays import pixels
from tests.helpers.photograph_examples import BUNDLES

Data = dict[Hashable, Any]
law = settings(deadline=None, max_examples=50)


class Seen:
    """A network that keeps its input and returns the first channel."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x)
        return x[:, :1]


def with_spacing(values: torch.Tensor, *spacing: float) -> MetaTensor:
    return MetaTensor(values, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float, seed: int = 0) -> np.ndarray:
    """The red channel of a retina: shaded towards its rim, on a nearly black surround."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - centre[0], columns - centre[1])
    dark = np.random.default_rng(seed).integers(0, 12, shape)
    return np.where(distance < radius, 200 * (1 - 0.5 * distance / radius), dark).astype(np.uint8)


# ---- CT: at least so many millimetres --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "spacing", "fitted"),
    [
        ((512, 512), (0.5, 0.5), (164, 164)),  # 256 of 400 mm
        ((512, 256), (0.5, 0.5), (164, 82)),
        ((100, 50), (2.0, 4.0), (128, 128)),
        ((512, 512), (0.78125, 0.78125), (256, 256)),  # 400 mm
        ((512, 512), (0.977, 0.977), (256, 256)),  # wider: as without
        ((512, 256), (0.977, 0.977), (256, 128)),
        ((512, 512), None, (256, 256)),  # millimetres that nobody knows cannot be kept
        ((512, 256), (float("nan"), 1.0), (256, 128)),
        ((4, 1), (0.5, 0.5), (1, 1)),
    ],
)
def test_a_narrow_slice_fills_only_its_share_of_the_square(
    shape: tuple[int, int], spacing: tuple[float, float] | None, fitted: tuple[int, int]
) -> None:
    assert in_plane_size(256, shape, spacing, 400) == fitted


@law
@given(st.integers(8, 600), st.integers(8, 600), st.floats(0.2, 4), st.floats(100, 600))
def test_no_slice_is_magnified_beyond_the_least_extent(nx: int, ny: int, pixel: float, extent: float) -> None:
    fitted = in_plane_size(256, (nx, ny), (pixel, pixel), extent)
    assert max(fitted) <= 256
    own = max(nx, ny) * pixel
    assert max(fitted) == pytest.approx(256 * own / max(own, extent), abs=0.51)
    if own >= extent:
        assert fitted == in_plane_size(256, (nx, ny), (pixel, pixel))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 3.0), (2.0, 5.0), (9.0, 9.0)])
def test_training_and_use_pad_a_narrow_volume_alike(spacing: tuple[float, float]) -> None:
    volume = with_spacing(torch.rand(1, 40, 30, 3) + 1, *spacing, 5.0)
    fitted = FitInPlaned("image", 64, ["image"], min_extent=200)({"image": volume})["image"]
    seen = Seen()
    SliceBySliceInferer(64, min_extent=200)(volume[None], seen)
    assert torch.equal(fitted, torch.cat(seen.batches).permute(1, 2, 3, 0))
    x, y = in_plane_size(64, (40, 30), spacing, 200)
    assert (fitted[:, :x, :y] >= 1).all()
    assert not fitted[:, x:].any()
    assert not fitted[:, :, y:].any()


def test_a_slice_goes_on_beyond_its_edges_as_air_or_as_tissue() -> None:
    """Left: air outside the body; right: the scan cuts a lung, which must not look like the air on the left."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:, :] = 0.7
    image[..., 24:, 12:20] = 0.15
    fitted = fit_in_plane(image, 64, (32, 32), "image", (0.05, 0.714))
    x, y = place_in_square(64, (32, 32), (0.05, 0.714))
    assert (x, y) == (slice(16, 48), slice(16, 48))
    assert torch.equal(fitted[..., x, y], image)
    assert (fitted[..., :16, :] == 0).all()
    assert (fitted[..., 48:, :] == torch.tensor(0.714)).all()
    mask = fit_in_plane((image > 0.5).float(), 64, (32, 32), "mask", (0.05, 0.714))
    assert torch.equal(mask[..., x, y], (image > 0.5).float())
    assert mask.sum() == (image > 0.5).sum()


@pytest.mark.parametrize("shape", [(40, 30), (31, 64), (17, 9)])
@pytest.mark.parametrize("beyond", [None, (0.05, 0.714)])
def test_padding_changes_nothing_where_the_network_looks_at_single_pixels(
    shape: tuple[int, int], beyond: tuple[float, float] | None
) -> None:
    """So cropping the square returns exactly the pixels that were put into it."""
    volume = with_spacing(torch.rand(1, 1, *shape, 2), 2.0, 2.0, 5.0)
    own = SliceBySliceInferer(max(shape), threshold=0.6)(volume, Seen())
    padded = SliceBySliceInferer(2 * max(shape), threshold=0.6, min_extent=4.0 * max(shape), beyond=beyond)
    assert torch.equal(padded(volume, Seen()).as_tensor(), own.as_tensor())


def test_training_and_use_continue_a_slice_alike() -> None:
    volume = with_spacing(torch.rand(1, 40, 30, 3), 2.0, 2.0, 5.0)
    fitted = FitInPlaned("image", 64, ["image"], min_extent=200, beyond=(0.05, 0.714))({"image": volume})["image"]
    seen = Seen()
    SliceBySliceInferer(64, min_extent=200, beyond=(0.05, 0.714))(volume[None], seen)
    assert torch.equal(fitted, torch.cat(seen.batches).permute(1, 2, 3, 0))


@pytest.mark.parametrize("value", [0.5, [0.1], [0.1, "0.7"], [1, 2, 3]])
def test_what_lies_beyond_is_two_numbers(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        SliceBySliceInferer(64, beyond=value)


def test_the_mask_of_a_padded_volume_lies_on_its_own_grid() -> None:
    volume = with_spacing(torch.rand(1, 1, 32, 32, 2), 1.0, 1.0, 5.0)
    mask = SliceBySliceInferer(64, threshold=0.6, min_extent=64)(volume, Seen())  # 32 of 64 pixels: as they are
    assert torch.equal(mask.as_tensor(), (torch.sigmoid(volume) >= 0.6).as_tensor().to(torch.uint8))


def test_a_picture_has_no_millimetres_to_keep() -> None:
    picture = torch.rand(1, 1, 32, 32)
    seen = Seen()
    SliceBySliceInferer(64, min_extent=1000)(picture, seen)
    assert seen.batches[0].shape[-2:] == (64, 64)
    assert seen.batches[0][..., -1, -1].abs().sum() > 0


@pytest.mark.parametrize("value", [-1, "400"])
def test_an_extent_that_is_no_number_of_millimetres_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"min_extent is .*, expected a number from 0"):
        SliceBySliceInferer(64, min_extent=value)


def volume_of(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.Image(list(shape), sitk.sitkInt16)
    image.SetSpacing(spacing)
    return image


@pytest.mark.parametrize(
    ("shape", "spacing", "words"),
    [
        ((512, 512, 10), (0.7, 0.7, 3.0), None),
        ((512, 512, 10), (0.3, 0.3, 3.0), "the slices are 154 mm wide, and the bundle was tested from 200 to 550 mm"),
        ((512, 512, 10), (1.37, 1.37, 3.0), "the slices are 701 mm wide"),
        ((60, 60, 10), (5.0, 5.0, 3.0), "the pixels of the slices are 5 mm wide, and the bundle was tested up to 4 mm"),
        ((512, 10, 512), (0.7, 9.0, 0.7), "the pixels of the slices are 9 mm wide"),
    ],
)
def test_what_the_bundle_was_not_tested_on_is_said(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], words: str | None
) -> None:
    said = unfamiliar_scale(volume_of(shape, spacing), find_bundle("lung").image_format)
    assert said is None if words is None else words in str(said)


# ---- photographs: the field of view ----------------------------------------------------------------------------------


@law
@given(
    radius=st.integers(90, 140), zoom=st.sampled_from([1, 2, 5]), bits=st.sampled_from([8, 16]), seed=st.integers(0, 9)
)
def test_the_diameter_is_found_at_every_size_and_depth(radius: int, zoom: int, bits: int, seed: int) -> None:
    red = np.kron(disc((300, 320), (150, 160), radius, seed), np.ones((zoom, zoom), np.uint8))
    red = red.astype(np.uint16) * 257 if bits == 16 else red
    for stored in (red, red.T):
        assert field_of_view_diameter(stored) == pytest.approx(2 * radius * zoom, rel=0.02, abs=3)


def test_a_disc_cut_off_at_two_sides_is_as_wide_as_the_other_way() -> None:
    assert field_of_view_diameter(disc((220, 320), (110, 160), 140)) == pytest.approx(280, abs=3)


def test_a_disc_cut_off_all_around_is_the_circle_through_its_corners() -> None:
    assert field_of_view_diameter(disc((240, 240), (120, 120), 140)) == pytest.approx(280, rel=0.03)


@pytest.mark.parametrize("end", [470, 512])  # inside the photograph, and at its edge
def test_glare_and_labels_that_touch_the_rim_do_not_widen_the_disc(end: int) -> None:
    """Such as the notch of a camera, a reflection or a caption: wider than what the opening removes."""
    red = disc((460, 512), (230, 220), 210)
    red[140:156, 220:end] = 180
    for stored in (red, red.T):
        assert field_of_view_diameter(stored) == pytest.approx(420, abs=3)


def test_a_photograph_cropped_to_the_retina_has_no_diameter() -> None:
    assert field_of_view_diameter(disc((300, 300), (150, 150), 400)) is None
    assert field_of_view_diameter(np.full((200, 200), 90, np.uint8)) is None
    assert field_of_view_diameter(np.zeros((200, 200), np.uint8)) is None
    assert field_of_view_diameter(disc((8, 8), (4, 4), 3)) is None


def photograph(radius: int, shape: tuple[int, int] = (300, 320)) -> torch.Tensor:
    red = torch.from_numpy(disc(shape, (shape[0] / 2, shape[1] / 2), radius))
    return torch.stack([red, red // 2, red // 4])


def test_photographs_near_the_networks_scale_stay_as_they_are() -> None:
    assert field_of_view_scale(photograph(140), 280) == 1.0
    assert field_of_view_scale(photograph(140), 300) == 1.0
    assert field_of_view_scale(photograph(140), 140) == pytest.approx(0.5, rel=0.02)
    assert field_of_view_scale(photograph(140), 560) == pytest.approx(2.0, rel=0.02)
    assert field_of_view_scale(photograph(400), 140) is None


@pytest.mark.parametrize("diameter", [None, 280, 100, 500])
def test_training_and_use_see_a_photograph_at_the_same_scale(diameter: int | None) -> None:
    image = photograph(140)
    label = (image[:1] > 150).float()
    data = ScaleFieldOfViewd(["image", "label", "fov"], diameter, ["image", "mask", "mask"], allow_missing_keys=True)(
        {"image": image, "label": label, "name": "one"}
    )
    seen = Seen()
    mask = SliceBySliceInferer(None, fov_diameter=diameter)(image[None], seen)
    assert torch.equal(seen.batches[0][0], data["image"].float())
    assert mask.shape == (1, 1, 300, 320)
    assert data["label"].shape[1:] == data["image"].shape[1:]
    assert set(data["label"].unique().tolist()) == {0.0, 1.0}
    assert "fov" not in data
    if diameter == 280:
        assert data["image"] is image


def test_each_photograph_of_a_stack_has_a_scale_of_its_own() -> None:
    stack = torch.stack([photograph(140), photograph(90)], -1)
    seen = Seen()
    SliceBySliceInferer(None, batch_size=2, fov_diameter=140)(stack[None], seen)
    assert [tuple(batch.shape[-2:]) for batch in seen.batches] == [
        tuple(round(n * factor) for n in (300, 320))
        for factor in (field_of_view_scale(photograph(140), 140), field_of_view_scale(photograph(90), 140))
        if factor
    ]


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_probabilities_come_back_on_the_photographs_own_pixels(factor: float) -> None:
    image = functional.interpolate(torch.rand(1, 3, 5, 6), (200, 240), mode="bicubic")
    inferer = SliceBySliceInferer(None, threshold=None, fov_diameter=100)
    plain = torch.sigmoid(image[:, :1])
    scaled = inferer(image, Seen(), scale=[factor])
    assert scaled.shape == plain.shape
    assert (scaled - plain).abs().max() < 0.03


def test_a_scale_without_a_field_of_view_or_for_fewer_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="no fov_diameter"):
        SliceBySliceInferer(None)(torch.rand(1, 3, 32, 32), Seen(), scale=[0.5])
    with pytest.raises(ValueError, match="2 factors, expected one for each of 1 slices"):
        SliceBySliceInferer(None, fov_diameter=20)(torch.rand(1, 3, 32, 32), Seen(), scale=[0.5, 1])


def test_reduction_averages_and_does_not_alias() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    reduced = rescale(stripes, 0.25, "image")
    assert (reduced[..., 2:-2] - 0.5).abs().max() < 0.03
    assert set(rescale(stripes, 0.25, "mask").unique().tolist()) <= {0.0, 1.0}
    assert rescale(stripes, 1, "image") is stripes


@pytest.mark.parametrize(
    ("scale", "factor"), [(0.5, 0.5), ("0.5", 0.5), (2, 2.0), ("1076px", 0.5), ("269 px", 2.0), (" 538px ", 1.0)]
)
def test_a_scale_by_hand_is_a_factor_or_a_diameter(scale: float | str, factor: float) -> None:
    assert scale_by_hand(scale, (600, 500), 538) == pytest.approx(factor)


@pytest.mark.parametrize("scale", ["wide", "", 0, -1, "0px", "-5px", "nan", "inf", float("nan"), "px", "10%"])
def test_what_is_no_scale_is_refused(scale: float | str) -> None:
    with pytest.raises(InputError, match=r"expected a factor such as 0\.5, or the diameter of the field of view"):
        scale_by_hand(scale, (600, 500), 538)


@pytest.mark.parametrize("scale", [0.01, 100, "1e6px"])
def test_a_scale_that_leaves_nothing_or_fills_the_memory_is_refused(scale: float | str) -> None:
    with pytest.raises(InputError, match="expected 16 to 16384 a side"):
        scale_by_hand(scale, (600, 500), 538)


# ---- bundles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lung", "drive", "stare", "chase_db1", "skin"])
def test_a_bundle_states_one_scale(name: str) -> None:
    configs = find_bundle(name).root / "configs"
    train, inference, metadata = (
        json.loads((configs / f"{file}.json").read_text()) for file in ("train", "inference", "metadata")
    )
    scale = metadata["network_data_format"]["inputs"]["image"]["scale"]
    assert train.get("beyond") == inference.get("beyond")
    for config in (train, inference):
        assert config.get("min_extent") == scale.get("min_extent_mm")
        assert config.get("fov_diameter") == scale.get("fov_diameter_px")
        if "whole_image_px" in scale:
            assert config["slice_size"] == scale["whole_image_px"]
    assert len(scale.keys() & {"min_extent_mm", "fov_diameter_px", "whole_image_px"}) == 1


@pytest.fixture(scope="module")
def chase() -> Segmenter:
    return Segmenter("chase_db1", "cpu")


@pytest.fixture(scope="module")
def retina() -> sitk.Image:
    """A photograph of the sample, reduced to a fifth; the bundle enlarges it, but that is not measured here."""
    path = next((BUNDLES / "chase_db1" / "sample" / "images").iterdir())
    image = read_image(path)
    step = max(image.GetSize()) // 190
    return sitk.BinShrink(image, [step, step]) if step > 1 else image


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_small_photograph_is_enlarged_and_that_is_said(chase: Segmenter, retina: sitk.Image, tmp_path: Path) -> None:
    chase.inferer.fov_diameter = 360  # of 920: faster
    try:
        result = chase.run(retina, probabilities=True)
        by_hand = chase.run(retina, scale=result.scale[0] if result.scale else 1)
    finally:
        chase.inferer.fov_diameter = 920
    assert result.mask.GetSize() == retina.GetSize()
    assert result.scale is not None
    assert 1.5 < result.scale[0] < 2.5
    (sentence,) = result.warnings
    assert "the network was trained on 360; the photograph was enlarged" in sentence
    np.testing.assert_array_equal(sitk.GetArrayFromImage(by_hand.mask), sitk.GetArrayFromImage(result.mask))
    assert by_hand.warnings == []


def test_the_command_and_its_report_tell_the_scale(
    retina: sitk.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = retina[40:140, 40:140]
    write_png(inside, tmp_path / "inside.png")
    command = ["segment", str(tmp_path / "inside.png"), str(tmp_path / "mask.png"), "--bundle", "chase_db1"]
    options = ["--device", "cpu", "--report", str(tmp_path / "report.json"), "--overwrite"]
    assert main([*command, *options]) in (0, 4)
    assert "no dark surround was found" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scale"] == [1.0]
    assert "no dark surround" in report["warnings"][0]
    assert main([*command, *options, "--scale", "460px"]) in (0, 4)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["scale"], report["warnings"]) == ([2.0], [])
    assert pixels(tmp_path / "mask.png").shape == (100, 100)

    assert main([*command, *options, "--scale", "wide"]) == 2
    assert "the scale is 'wide', expected a factor such as 0.5" in capsys.readouterr().err


def test_a_bundle_that_does_not_go_by_the_field_of_view_takes_no_scale(retina: sitk.Image) -> None:
    for name in ("lung", "skin"):
        segmenter = Segmenter(name, "cpu")
        image = retina if name == "skin" else volume_of((64, 64, 1), (6.0, 6.0, 3.0))
        with pytest.raises(InputError, match=f"the bundle '{name}' does not use the field of view .* leave it out"):
            segmenter.run(image, scale=0.5)


# ---- the real data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "bundle"),
    [("drive/*/images/*", "drive"), ("stare/images/*", "stare"), ("chase_db1/images/*", "chase_db1")],
)
def test_every_photograph_of_a_data_set_is_at_the_scale_of_its_bundle(
    data_root: Path, pattern: str, bundle: str
) -> None:
    diameter = find_bundle(bundle).image_format["scale"]["fov_diameter_px"]
    photographs = sorted(data_root.glob(pattern))
    assert len(photographs) >= 20
    for path in photographs:
        red = sitk.GetArrayFromImage(sitk.VectorIndexSelectionCast(read_image(path), 0))
        assert field_of_view_diameter(red) == pytest.approx(diameter, rel=0.08), path
        middle = red[red.shape[0] // 4 : -red.shape[0] // 4, red.shape[1] // 4 : -red.shape[1] // 4]
        assert field_of_view_diameter(middle) is None, path
    for path in photographs[::7]:
        red = sitk.GetArrayFromImage(sitk.VectorIndexSelectionCast(read_image(path), 0))
        for zoom in (0.5, 2, 3, 4):
            resized = Image.fromarray(red).resize([round(zoom * n) for n in red.T.shape], Image.Resampling.LANCZOS)
            found = field_of_view_diameter(np.asarray(resized))
            assert found == pytest.approx(zoom * field_of_view_diameter(red), rel=0.01), (path, zoom)
