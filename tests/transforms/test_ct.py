"""The random transforms of CT slices, on a real one."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch.nn import functional

from monai_r2unet.transforms.ct import (
    RandAerationd,
    RandBlurd,
    RandConsolidationd,
    RandCroppedScand,
    RandDenoised,
    RandDiaphragmd,
    RandFieldOfViewd,
    RandGasd,
    RandHeadd,
    RandPelvisd,
    RandSurroundingsd,
)
from monai_r2unet.transforms.ct.scan import distance_from_body
from monai_r2unet.transforms.ct.slices import RandSliceTransform

Data = dict[Hashable, Any]
RANDOM = [
    RandAerationd,
    RandBlurd,
    RandConsolidationd,
    RandCroppedScand,
    RandDenoised,
    RandDiaphragmd,
    RandFieldOfViewd,
    RandGasd,
    RandSurroundingsd,
]
each_random = pytest.mark.parametrize("transform_class", RANDOM)
SEEDS = range(20)


@pytest.fixture(scope="module")
def chest(repository: Path) -> Data:
    """A real slice, 128 x 128, window -1000 to 400 HU, and its lungs."""
    image, label = (
        np.asarray(nib.load(repository / "bundles" / "lung" / "sample" / kind / "LCTSC_003.nii.gz").dataobj)[
            ::2, ::2, 9
        ].astype(np.float32)
        for kind in ("images", "labels")
    )
    assert label.sum() > 1000
    pair = {"image": np.clip((image + 1000) / 1400, 0, 1), "label": label}
    return {key: torch.from_numpy(values)[None] for key, values in pair.items()}


def changed(transform_class: type[RandSliceTransform], data: Data, seed: int) -> Data:
    transform = transform_class(prob=1.0)
    transform.set_random_state(seed)
    return transform(data)


@each_random
def test_a_seed_fixes_the_whole_sequence(transform_class: type[RandSliceTransform], chest: Data) -> None:
    def sequence(seed: int) -> torch.Tensor:
        chain = Compose([transform_class(prob=0.8)])
        chain.set_random_state(seed)
        return torch.stack([chain(chest)["image"] for _ in range(5)])

    assert torch.equal(sequence(1), sequence(1))
    assert not torch.equal(sequence(1), sequence(2))


@each_random
def test_random_changes_keep_shape_kind_and_range(transform_class: type[RandSliceTransform], chest: Data) -> None:
    before = {key: values.clone() for key, values in chest.items()}
    altered = 0
    for seed in SEEDS:
        result = changed(transform_class, chest, seed)
        for key, values in result.items():
            assert values.shape == chest[key].shape
            assert values.dtype == chest[key].dtype
        assert result["image"].min() >= 0
        assert result["image"].max() <= 1
        assert set(result["label"].unique().tolist()) <= {0.0, 1.0}
        altered += not torch.equal(result["image"], chest["image"])
    assert altered > len(SEEDS) / 2
    assert all(torch.equal(chest[key], before[key]) for key in chest)  # nothing in place


@each_random
def test_without_luck_nothing_changes(transform_class: type[RandSliceTransform], chest: Data) -> None:
    never = transform_class(prob=0.0)
    assert all(never(chest)[key] is chest[key] for key in chest)


def test_aeration_changes_only_the_aerated_lung(chest: Data) -> None:
    lung = chest["label"] > 0
    vessels = lung & (chest["image"] > 0.45)
    assert vessels.any()
    shifts = []
    for seed in SEEDS:
        result = changed(RandAerationd, chest, seed)
        assert torch.equal(result["label"], chest["label"])
        assert torch.equal(result["image"][~lung | vessels], chest["image"][~lung | vessels])
        shifts.append(float((result["image"] - chest["image"])[lung].mean()))
    assert min(shifts) < -0.03  # 40 HU
    assert max(shifts) > 0.01


@pytest.mark.parametrize("transform_class", [RandBlurd, RandDenoised])
def test_smoothing_takes_the_noise_and_leaves_label_and_mean(
    transform_class: type[RandSliceTransform], chest: Data
) -> None:
    noisy = chest["image"] + 0.03 * torch.from_numpy(np.random.RandomState(0).standard_normal(chest["image"].shape))
    data: Data = {"image": noisy.float().clamp(0, 1), "label": chest["label"]}
    edge_of_image = 8
    inside = (..., slice(edge_of_image, -edge_of_image), slice(edge_of_image, -edge_of_image))

    def roughness(image: torch.Tensor) -> float:
        return float((image[..., 1:] - image[..., :-1]).abs().median())

    for seed in SEEDS:
        result = changed(transform_class, data, seed)
        assert torch.equal(result["label"], chest["label"])
        assert roughness(result["image"][inside]) < roughness(data["image"][inside])
        assert result["image"][inside].mean() == pytest.approx(float(data["image"][inside].mean()), abs=0.01)


def test_denoising_keeps_the_edge_that_a_blur_washes_out() -> None:
    step = torch.zeros(1, 64, 64)
    step[:, 32:] = 0.7
    data: Data = {"image": step, "label": torch.zeros_like(step)}
    for seed in SEEDS:
        assert (changed(RandDenoised, data, seed)["image"] - step).abs().max() < 0.01


def test_a_cropped_scan_keeps_a_part_of_image_and_label_alike(chest: Data) -> None:
    marked: Data = {"image": chest["image"].clamp_min(0.01), "label": chest["label"]}
    for seed in SEEDS:
        result = changed(RandCroppedScand, marked, seed)
        kept = result["image"][0] > 0
        assert kept[0, 0]  # in the corner, as without `beyond`
        width, height = int(kept.any(1).sum()), int(kept.any(0).sum())
        assert kept[:width, :height].all()
        assert 0.1 * kept.numel() < kept.sum() < kept.numel()
        assert not result["label"][0][~kept].any()
        # Image and label went the same way: what is lung is as dense as lung was.
        lung = result["label"] > 0
        if lung.sum() > 200:
            assert (result["image"][lung] < 0.45).float().mean() > 0.8


def test_a_cropped_scan_is_padded_as_in_use(chest: Data) -> None:
    transform = RandCroppedScand(prob=1.0, beyond=(0.05, 0.714))
    tissue_beyond = 0
    for seed in SEEDS:
        transform.set_random_state(seed)
        result = transform(chest)
        assert result["image"].shape == result["label"].shape == chest["image"].shape
        tissue = result["image"] == 0.714
        assert not result["label"][tissue].any()
        tissue_beyond += bool(tissue.sum() > 100)
    assert tissue_beyond > len(SEEDS) / 2  # where the crop cuts the body


def test_the_distance_from_the_body_is_measured_from_its_skin_and_not_from_the_lungs(chest: Data) -> None:
    away = distance_from_body(chest["image"][0])
    assert (away[chest["label"][0] > 0] == 0).all()
    x, y = (chest["image"][0] > 0.5).nonzero().T
    assert (away[x, y] < 0.02).float().mean() > 0.9  # but for the couch
    assert away[0, 0] > 0.05


def test_consolidation_changes_only_the_lung_which_stays_labelled(chest: Data) -> None:
    lung = chest["label"] > 0
    for seed in SEEDS:
        result = changed(RandConsolidationd, chest, seed)
        assert torch.equal(result["label"], chest["label"])
        assert torch.equal(result["image"][~lung], chest["image"][~lung])
        assert result["image"][lung].mean() > chest["image"][lung].mean()  # denser


def test_consolidation_needs_a_lung(chest: Data) -> None:
    empty: Data = {"image": chest["image"], "label": torch.zeros_like(chest["label"])}
    for seed in SEEDS:
        result = changed(RandConsolidationd, empty, seed)
        assert torch.equal(result["image"], empty["image"])
        assert torch.equal(result["label"], empty["label"])


def test_the_dome_of_the_diaphragm_takes_soft_tissue_from_the_lung(chest: Data) -> None:
    lung = chest["label"] > 0
    for seed in SEEDS:
        result = changed(RandDiaphragmd, chest, seed)
        left = result["label"] > 0
        dome = lung & ~left
        assert not (left & ~lung).any()
        assert dome.sum() > 30
        assert torch.equal(result["image"][~lung], chest["image"][~lung])
        assert 0.6 < result["image"][dome].median() < 0.9
        # Lung is all that is left to the lung but for the dome's edge, half of which may lie on either side.
        assert (result["image"][left] - chest["image"][left]).abs().median() < 0.05


def test_the_dome_of_the_diaphragm_needs_a_lung(chest: Data) -> None:
    empty: Data = {"image": chest["image"], "label": torch.zeros_like(chest["label"])}
    assert torch.equal(changed(RandDiaphragmd, empty, 0)["image"], empty["image"])


def test_gas_is_drawn_in_soft_tissue_away_from_the_lung(chest: Data) -> None:
    lung = chest["label"] > 0
    beside_lung = functional.max_pool2d(lung.float(), 5, stride=1, padding=2) > 0  # two pixels all around, of 128
    darker = torch.zeros_like(lung)
    for seed in SEEDS:
        result = changed(RandGasd, chest, seed)
        assert torch.equal(result["label"], chest["label"])
        assert torch.equal(result["image"][beside_lung], chest["image"][beside_lung])
        differs = result["image"] != chest["image"]
        assert (chest["image"][differs] > 0.55).all()
        darker |= differs & (result["image"] < 0.1)
    assert darker.sum() > 100


def test_gas_needs_soft_tissue() -> None:
    air: Data = {"image": torch.zeros(1, 64, 64), "label": torch.zeros(1, 64, 64)}
    assert torch.equal(changed(RandGasd, air, 0)["image"], air["image"])


def test_surroundings_are_drawn_in_unlabelled_air_only(chest: Data) -> None:
    free = (chest["image"] < 0.05) & (chest["label"] == 0)
    for seed in SEEDS:
        result = changed(RandSurroundingsd, chest, seed)
        assert torch.equal(result["label"], chest["label"])
        assert torch.equal(result["image"][~free], chest["image"][~free])
        assert (result["image"] >= chest["image"]).all()


def test_surroundings_never_cover_labelled_pixels() -> None:
    air: Data = {"image": torch.zeros(1, 96, 96), "label": (torch.rand(1, 96, 96) > 0.5).float()}
    drawn = torch.zeros(1, 96, 96)
    for seed in range(40):
        drawn = torch.maximum(drawn, changed(RandSurroundingsd, air, seed)["image"])
    assert (drawn[air["label"] > 0] == 0).all()
    assert (drawn[air["label"] == 0] > 0).float().mean() > 0.2


def test_a_narrow_field_of_view_clears_image_and_label_alike(chest: Data) -> None:
    for seed in SEEDS:
        white: Data = {"image": torch.ones(1, 128, 128), "label": torch.ones(1, 128, 128, dtype=torch.uint8)}
        circle = changed(RandFieldOfViewd, white, seed)
        inside = circle["image"] > 0
        assert torch.equal(inside, circle["label"] > 0)
        assert circle["label"].dtype == torch.uint8
        assert inside[0, 64, 64]
        assert not inside[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()
        assert 0.2 < inside.float().mean() < 0.8  # radius 0.6 to 1 of half the side
        result = changed(RandFieldOfViewd, chest, seed)
        assert torch.equal(result["image"], chest["image"] * inside)
        assert torch.equal(result["label"], chest["label"] * inside)


def test_arrays_and_other_keys_are_taken() -> None:
    data: Data = {"ct": np.zeros((1, 32, 32), np.float32), "lung": np.zeros((1, 32, 32), np.uint8), "case": "a"}
    result = RandSurroundingsd(image_key="ct", label_key="lung", prob=1.0)(data)
    assert isinstance(result["ct"], torch.Tensor)
    assert result["case"] == "a"


def test_pelves_take_the_place_of_slices_without_lung_alone(chest: Data) -> None:
    assert changed(RandPelvisd, chest, 0)["image"] is chest["image"]
    empty: Data = {"image": chest["image"], "label": torch.zeros_like(chest["label"])}
    for seed in SEEDS:
        result = changed(RandPelvisd, empty, seed)
        pelvis = result["image"]
        assert result["label"] is empty["label"]
        assert pelvis.shape == chest["image"].shape
        assert pelvis.dtype == chest["image"].dtype
        assert pelvis.min() == 0
        assert pelvis.max() <= 1
        body = pelvis > 0.3
        assert 0.1 < body.float().mean() < 0.9
        assert (pelvis[body] > 0.5).float().mean() > 0.99  # fat, soft tissue and bone, no air
        left, right = (pelvis[0, half] > 0.9 for half in (slice(64), slice(64, None)))
        assert left.any()
        assert right.any()
        assert not torch.equal(pelvis, changed(RandPelvisd, empty, seed + 100)["image"])


def test_heads_take_the_place_of_slices_without_lung_alone(chest: Data) -> None:
    assert changed(RandHeadd, chest, 0)["image"] is chest["image"]
    empty: Data = {"image": chest["image"], "label": torch.zeros_like(chest["label"])}
    for seed in SEEDS:
        result = changed(RandHeadd, empty, seed)
        head = result["image"]
        assert result["label"] is empty["label"]
        assert head.shape == chest["image"].shape
        assert head.dtype == chest["image"].dtype
        assert head.min() == 0
        assert head.max() <= 1
        brain = (head > 0.70) & (head < 0.80)  # -20 to 120 HU, within bone
        assert brain.float().mean() > 0.01
        assert (head > 0.84).any()
        assert not torch.equal(head, changed(RandHeadd, empty, seed + 100)["image"])
