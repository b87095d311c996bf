"""Inference slice by slice with networks whose answer is known, and slices served from volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRange
from torch import nn

from monai_r2unet.datasets import SliceDataset, load_datalist
from monai_r2unet.errors import InputError, NotEnoughMemoryError
from monai_r2unet.inference.inferers import SliceBySliceInferer, is_out_of_memory
from monai_r2unet.networks import R2UNet


class Above(nn.Module):
    """The probability is above one half where the first channel is above ``level``; keeps the inputs it was given."""

    def __init__(self, level: float, steepness: float = 8.0) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))
        self.steepness = steepness
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inputs.append(x)
        return self.steepness * (x[:, :1] - self.level)


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random values from 0 to 1, (1, C, X, Y, Z)."""
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def with_spacing(values: torch.Tensor, dx: float, dy: float, dz: float = 5.0) -> MetaTensor:
    return MetaTensor(values, affine=torch.diag(torch.tensor([-dx, dy, dz, 1.0], dtype=torch.float64)))


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_at_the_networks_own_size_the_mask_is_the_networks_answer_voxel_by_voxel() -> None:
    image = volume(1, 32, 32, 5)
    mask = SliceBySliceInferer(32, batch_size=2)(image, Above(0.3))
    assert mask.dtype == torch.uint8
    assert torch.equal(mask, (image > 0.3).to(torch.uint8))


def test_probabilities_are_the_sigmoid_of_the_logits() -> None:
    image = volume(1, 32, 32, 5)
    probabilities = SliceBySliceInferer(32, batch_size=2, threshold=None)(image, Above(0.3))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, torch.sigmoid(8 * (image - 0.3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_the_mask_is_the_probabilities_from_the_threshold_on(threshold: float) -> None:
    image = volume(1, 40, 28, 3)
    mask = SliceBySliceInferer(32, threshold=threshold)(image, Above(0.5))
    probabilities = SliceBySliceInferer(32, threshold=None)(image, Above(0.5))
    assert torch.equal(mask, (probabilities >= threshold).to(torch.uint8))
    assert 0 < mask.sum() < mask.numel()


def test_a_probability_of_exactly_the_threshold_is_foreground() -> None:
    assert SliceBySliceInferer(8)(torch.ones(1, 1, 8, 8, 1), Above(1.0)).all()


@pytest.mark.parametrize("threshold", [0.5, None])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.8, 2.4)])
def test_the_batch_size_changes_nothing(threshold: float | None, spacing: tuple[float, float]) -> None:
    image = with_spacing(volume(1, 45, 31, 7), *spacing)
    one, *others = (
        SliceBySliceInferer(32, batch_size=batch_size, threshold=threshold)(image, Above(0.5))
        for batch_size in (1, 2, 3, 7, 100)
    )
    assert one.shape == (1, 1, 45, 31, 7)
    assert all(torch.equal(one, other) for other in others)


def test_the_batch_size_changes_no_mask_of_r2unet() -> None:
    torch.manual_seed(0)
    network = R2UNet(channels=(4, 8, 16)).eval()
    image = volume(1, 40, 33, 5)
    probabilities = [SliceBySliceInferer(32, n, threshold=None)(image, network) for n in (1, 2, 5)]
    for other in probabilities[1:]:  # convolutions may round differently in another batch, no more
        torch.testing.assert_close(other, probabilities[0], rtol=0, atol=1e-6)
    assert not any(values.requires_grad for values in probabilities)


def test_several_channels_in_and_several_classes_out() -> None:
    image = volume(3, 20, 20, 4)
    mask = SliceBySliceInferer(20, batch_size=3)(image, lambda x: 100 * (x[:, [2, 0]] - 0.5))
    assert torch.equal(mask, (image[:, [2, 0]] > 0.5).to(torch.uint8))


def test_a_volume_of_one_slice() -> None:
    image = volume(1, 48, 48, 1)
    assert SliceBySliceInferer(32, batch_size=8)(image, Above(0.5)).shape == image.shape


@pytest.mark.parametrize("window", [None, SlidingWindowInferer([16, 16], overlap=0.5)])
def test_mirrored_the_result_of_a_mirror_image_is_the_mirror_image_of_the_result(window: Inferer | None) -> None:
    torch.manual_seed(0)
    network = R2UNet(channels=(4, 8, 16)).eval()
    image = volume(1, 40, 32, 3)
    results = {
        mirror: [
            SliceBySliceInferer(None, threshold=None, window=window, mirror=mirror)(turned, network)
            for turned in (image, image.flip(2), image.flip(3))
        ]
        for mirror in (False, True)
    }
    plain, averaged = (torch.cat([one, x.flip(2), y.flip(3)]) for one, x, y in (results[False], results[True]))
    assert (plain - plain[:1]).abs().max() > 1e-3, "the network itself is not symmetric"
    torch.testing.assert_close(averaged, averaged[:1].expand_as(averaged), rtol=0, atol=1e-5)
    assert (averaged[0] - plain.mean(0)).abs().max() < (plain - plain.mean(0)).abs().max()


def test_mirrored_a_network_that_sees_single_pixels_says_the_same() -> None:
    image = with_spacing(volume(1, 45, 31, 2), 0.8, 2.4)
    plain, averaged = (SliceBySliceInferer(32, threshold=None, mirror=m)(image, Above(0.3)) for m in (False, True))
    torch.testing.assert_close(averaged, plain, rtol=0, atol=1e-6)


def test_the_result_may_be_written_into() -> None:
    mask = SliceBySliceInferer(8)(volume(1, 8, 8, 2), Above(0.5))
    mask[..., 0] = 0
    assert not mask[..., 0].any()


def test_arguments_are_passed_on_to_the_network() -> None:
    mask = SliceBySliceInferer(8)(torch.zeros(1, 1, 8, 8, 2), lambda x, sign, shift: sign * x + shift, 1.0, shift=9.0)
    assert mask.all()


# ---- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), [((128, 128), (1.0, 1.0)), ((128, 64), (1.0, 2.0))])
def test_a_structure_comes_back_to_where_it_was(shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    image = torch.zeros(1, 1, *shape, 3)
    image[..., 20:90, 10:40, 1] = 1.0  # on the grid of 2 x 2 pixels, which the network sees as one
    mask = SliceBySliceInferer(64)(with_spacing(image, *spacing), Above(0.5))
    assert torch.equal(mask, image.to(torch.uint8))


@pytest.mark.parametrize(
    ("shape", "spacing", "fitted"),
    [
        ((40, 20), (1.0, 1.0), (32, 16)),
        ((40, 20), (1.0, 2.0), (32, 32)),  # a square of anatomy fills the square
        ((40, 20), (1.0, 6.0), (11, 32)),
        ((16, 16), (3.0, 3.0), (32, 32)),
    ],
)
def test_the_network_sees_the_aspect_in_millimetres(
    shape: tuple[int, int], spacing: tuple[float, float], fitted: tuple[int, int]
) -> None:
    network = Above(0.5)
    mask = SliceBySliceInferer(32)(with_spacing(torch.ones(1, 1, *shape, 2), *spacing), network)
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., : fitted[0], : fitted[1]] = 1
    for slices in network.inputs:
        torch.testing.assert_close(slices, expected)
    assert mask.shape == (1, 1, *shape, 2)
    assert mask.all()  # nothing of the padding comes back


def test_a_data_loader_keeps_the_spacing() -> None:
    image = with_spacing(torch.ones(1, 40, 20, 2), 1.0, 2.0)
    (batch,) = DataLoader(Dataset([{"image": image}]), batch_size=1)
    network = Above(0.5)
    SliceBySliceInferer(32)(batch["image"], network)
    assert network.inputs[0].all()


# ---- what goes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float32, torch.float64])
def test_any_type_of_voxel_is_windowed_in_its_own_units(dtype: torch.dtype) -> None:
    hounsfield = torch.randint(-1024, 3072, (1, 1, 24, 24, 3), generator=torch.Generator().manual_seed(0))
    window = ScaleIntensityRange(-1000, 400, 0.0, 1.0, clip=True)
    network = Above(0.5)  # -300 HU
    inferer = SliceBySliceInferer(24, batch_size=3, slice_transform=window)
    mask = inferer(with_spacing(hounsfield.to(dtype), 1.0, 1.0), network)
    assert torch.equal(mask, (hounsfield >= -300).to(torch.uint8))
    (slices,) = network.inputs
    assert type(slices) is torch.Tensor  # not a MetaTensor, which slows a network down
    assert slices.dtype == torch.float32
    assert (slices.min().item(), slices.max().item()) == (0.0, 1.0)


def test_only_a_batch_is_floating_point_at_a_time() -> None:
    network = Above(0.5)
    image = torch.zeros(1, 1, 16, 16, 10, dtype=torch.int16)
    mask = SliceBySliceInferer(16, batch_size=4)(image, network)
    assert [len(slices) for slices in network.inputs] == [4, 4, 2]
    assert mask.nbytes == 16 * 16 * 10
    assert image.dtype == torch.int16


@pytest.mark.parametrize(
    "shape", [(16, 16, 4), (2, 1, 16, 16, 4), (2, 3, 16, 16), (1, 1, 1, 16, 16, 4), (1, 1, 16, 16, 0), (1, 1, 0, 16)]
)
def test_anything_but_one_volume_or_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes one volume .* or picture .*, got \(" + ", ".join(map(str, shape))):
        SliceBySliceInferer(16)(torch.zeros(shape), Above(0.5))


# ---- pictures, and slices at their own size --------------------------------------------------------------------------


def test_a_picture_is_one_slice() -> None:
    picture = volume(3, 30, 20)
    network = Above(0.5)
    mask = SliceBySliceInferer(None)(picture, network)
    assert mask.shape == (1, 1, 30, 20)
    assert torch.equal(mask, (picture[:, :1] > 0.5).to(torch.uint8))
    as_volume = SliceBySliceInferer(None)(picture[..., None], network)
    assert torch.equal(as_volume[..., 0], mask)


def test_without_a_slice_size_the_network_sees_the_slices_as_they_are() -> None:
    network = Above(0.5)
    SliceBySliceInferer(None, batch_size=2)(volume(1, 33, 47, 3), network)
    assert [tuple(slices.shape) for slices in network.inputs] == [(2, 1, 33, 47), (1, 1, 33, 47)]


# ---- slices without body ---------------------------------------------------------------------------------------------


def test_slices_without_body_are_not_run_and_empty() -> None:
    image = torch.full((1, 1, 20, 20, 6), -1024, dtype=torch.int16)
    image[..., :2, :2, 1] = 40  # 4 of 400 pixels: just enough of a body
    image[..., :3, :1, 2] = 40  # 3 of 400: a speck
    image[..., 4] = 40
    network = Above(-2000.0)  # everything is foreground
    progress: list[tuple[int, int]] = []
    inferer = SliceBySliceInferer(20, body_above=-500, body_share=0.01)
    mask = inferer(image, network, on_progress=lambda done, total: progress.append((done, total)))
    assert mask.flatten(0, 3).any(0).tolist() == [False, True, False, False, True, False]
    assert len(network.inputs) == 2
    assert progress == [(1, 2), (2, 2)]


def test_a_volume_without_any_body_is_empty() -> None:
    image = torch.full((1, 1, 20, 24, 3), -1024, dtype=torch.int16)
    mask = SliceBySliceInferer(20, body_above=-500)(image, Above(-2000.0))
    assert mask.shape == (1, 1, 20, 24, 3)
    assert not mask.any()


# ---- full memory -----------------------------------------------------------------------------------------------------


class Greedy(Above):
    """Runs out of memory on more than ``most`` slices at a time."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__(0.5)
        self.most = most
        self.error = error
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return super().forward(x)


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
]


@pytest.mark.parametrize("error", FULL)
def test_where_memory_is_full_the_batch_is_halved_and_nothing_is_lost(error: Exception) -> None:
    image = volume(1, 16, 16, 11)
    network = Greedy(2, error)
    mask = SliceBySliceInferer(16, batch_size=8)(image, network)
    assert torch.equal(mask, (image > 0.5).to(torch.uint8))
    assert network.sizes == [8, 4, 2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("error", FULL)
def test_too_little_memory_for_one_slice_is_told_in_one_sentence(error: Exception) -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"^not enough memory on cpu for one slice of 16 x 12 pixels: close"):
        SliceBySliceInferer(16, batch_size=4)(volume(1, 16, 12, 5), Greedy(0, error))


def test_other_errors_of_the_network_are_not_taken_for_full_memory() -> None:
    network = Greedy(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        SliceBySliceInferer(16, batch_size=4)(volume(1, 16, 12, 5), network)
    assert network.sizes == [4]


def test_really_full_memory_of_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# ---- precision -------------------------------------------------------------------------------------------------------


def test_in_float32_nothing_is_rounded_to_16_bits() -> None:
    torch.manual_seed(0)
    network = R2UNet(channels=(4, 8, 16)).eval()
    image = volume(1, 32, 32, 3)
    exact = torch.sigmoid(network(image[0].movedim(-1, 0))).movedim(0, -1)[None].detach()
    torch.testing.assert_close(
        SliceBySliceInferer(32, threshold=None, float32=True)(image, network), exact, rtol=0, atol=1e-6
    )
    # 8 bits of mantissa, where the processor has a 16-bit type at all
    torch.testing.assert_close(SliceBySliceInferer(32, threshold=None)(image, network), exact, rtol=0, atol=2e-2)


@pytest.mark.parametrize("float32", [True, False])
def test_slices_of_one_channel_are_channels_last(float32: bool) -> None:
    network = Above(0.5)
    SliceBySliceInferer(32, batch_size=2, float32=float32)(volume(1, 32, 32, 2), network)
    assert network.inputs[0].stride() == (1024, 1, 32, 1)  # not 1024 for the channel, by which layers would go NCHW


# ---- progress --------------------------------------------------------------------------------------------------------


def test_progress_counts_slices_after_every_batch() -> None:
    inferer = SliceBySliceInferer(8, batch_size=4)
    calls: list[tuple[int, int]] = []
    inferer(volume(1, 8, 8, 10), Above(0.5), on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 10), (8, 10), (10, 10)]


def test_progress_can_stop_the_inference() -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    inferer = SliceBySliceInferer(8)
    network = Above(0.5)
    with pytest.raises(Cancelled):
        inferer(volume(1, 8, 8, 10), network, on_progress=cancel)
    assert len(network.inputs) == 1


# ---- SliceDataset ----------------------------------------------------------------------------------------------------

DATA = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in ("a", "b")]
VOLUMES = {
    "images/a.nii.gz": {"image": volume(2, 6, 5, 3, seed=1)[0], "label": volume(1, 6, 5, 3, seed=2)[0].round()},
    "images/b.nii.gz": {"image": volume(2, 4, 4, 1, seed=3)[0], "label": volume(1, 4, 4, 1, seed=4)[0].round()},
}


def load(entry: Any) -> dict[str, torch.Tensor]:
    return VOLUMES[entry["image"]]


def test_slices_of_all_volumes_in_order() -> None:
    dataset = SliceDataset(DATA, load, progress=False)
    assert len(dataset) == 4
    items = [dataset[i] for i in range(4)]
    assert [(item["case"], item["slice"]) for item in items] == [
        ("a.nii.gz", 0),
        ("a.nii.gz", 1),
        ("a.nii.gz", 2),
        ("b.nii.gz", 0),
    ]
    for item in items:
        for key in ("image", "label"):
            assert torch.equal(item[key], VOLUMES[f"images/{item['case']}"][key][..., item["slice"]])


def test_volumes_are_loaded_once_and_no_transform_of_a_slice_spoils_them() -> None:
    loaded: list[str] = []

    def counted(entry: Any) -> dict[str, torch.Tensor]:
        loaded.append(entry["image"])
        return load(entry)

    def spoil(item: Any) -> Any:
        return {"image": item["image"].add_(1), "label": item["label"]}

    dataset = SliceDataset(DATA, counted, spoil, progress=False)
    for _ in range(3):
        assert torch.equal(dataset[1]["image"], VOLUMES["images/a.nii.gz"]["image"][..., 1] + 1)
    assert loaded == [entry["image"] for entry in DATA]


def test_an_epoch_is_every_slice_once() -> None:
    loader = DataLoader(SliceDataset(DATA, load, progress=False), batch_size=1, shuffle=True)
    drawn = [(batch["case"][0], int(batch["slice"][0])) for batch in loader]
    assert sorted(drawn) == [("a.nii.gz", 0), ("a.nii.gz", 1), ("a.nii.gz", 2), ("b.nii.gz", 0)]


def test_each_slice_is_drawn_as_often_as_the_weight_of_its_entry_says() -> None:
    often, seldom = ({**entry, "weight": weight} for entry, weight in zip(DATA, (3, 0.5), strict=True))
    assert SliceDataset([often, seldom], load, progress=False).weights == [3.0, 3.0, 3.0, 0.5]
    assert SliceDataset(DATA, load, progress=False).weights == [1.0] * 4


@pytest.mark.parametrize("weight", [-1, "often", True, None, float("nan"), float("inf")])
def test_a_weight_that_is_no_number_from_0_is_refused(weight: object) -> None:
    with pytest.raises(InputError, match=r"images/a\.nii\.gz.*expected a number from 0"):
        SliceDataset([{**DATA[0], "weight": weight}], load, progress=False)


def test_a_label_on_another_grid_is_refused_by_the_names_of_both_files() -> None:
    def mismatched(entry: Any) -> dict[str, torch.Tensor]:
        return {"image": torch.zeros(1, 6, 5, 3), "label": torch.zeros(1, 6, 5, 4)}

    with pytest.raises(InputError) as refused:
        SliceDataset(DATA, mismatched, progress=False)
    for part in ("images/a.nii.gz", "labels/a.nii.gz", "(6, 5, 3)", "(6, 5, 4)", "same grid"):
        assert part in str(refused.value)


def test_the_lung_sample_is_served(repository: Path) -> None:
    data = load_datalist(repository / "bundles" / "lung" / "sample", "validation")
    read = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    dataset = SliceDataset(data, read, progress=False)
    assert len(dataset) == 19
    item = dataset[9]
    assert item["image"].shape == item["label"].shape == (1, 256, 256)
    assert item["case"] == "LCTSC_006.nii.gz"
    lung = item["label"] == 1
    assert item["image"][lung].mean() < -500  # HU
    assert lung.sum() > 1000
