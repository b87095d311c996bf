"""Patches of photographs: where they come from, how they are changed, and who gets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from monai_r2unet.datasets import PatchDataset, PictureDataset
from monai_r2unet.errors import InputError
from monai_r2unet.transforms.patches import RandomGeometry, RandomIntensity

SIZES = [(40, 32), (24, 50)]


def located(sizes: list[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Photographs whose three channels are x + 1, y + 1 and number + 1, so that each pixel identifies its origin."""
    entries = []
    for number, (width, height) in enumerate(sizes):
        x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="ij")
        image = torch.stack([x + 1, y + 1, torch.full_like(x, number + 1)]).float()
        entries.append({"image": f"{number}.png", "label": f"{number}_l.png", "_": (image, ((x + y) % 2)[None] * 255)})
    return entries


def environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def load(entry: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    image, label = entry["_"]
    return {"image": image, "label": label}


def patches_of(dataset: PatchDataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches = list(DataLoader(dataset, batch_size=None))
    assert len(batches) == len(dataset)
    return [pair for batch in batches for pair in zip(batch["image"], batch["label"], strict=True)]


def corners_of(dataset: PatchDataset) -> list[tuple[int, int, int]]:
    """Photograph and near corner of each patch, after a look at every pixel of it."""
    found = []
    for image, label in patches_of(dataset):
        size = dataset.patch_size
        number, left, top = int(image[2, 0, 0]) - 1, int(image[0, 0, 0]) - 1, int(image[1, 0, 0]) - 1
        expected = load(located()[number])
        there = (slice(None), slice(left, left + size), slice(top, top + size))
        torch.testing.assert_close(image, expected["image"][there], rtol=0, atol=0)
        torch.testing.assert_close(label, (expected["label"][there] > 0).float(), rtol=0, atol=0)
        found.append((number, left, top))
    return found


def dataset(**options: Any) -> PatchDataset:
    arguments: dict[str, Any] = {"patch_size": 16, "patches": 8, "batch_size": 4, "progress": False}
    return PatchDataset(located(), load, **{**arguments, **options})


# ---- where patches come from -----------------------------------------------------------------------------------------


def test_patches_are_cut_from_everywhere_and_equally_often_from_each_photograph() -> None:
    torch.manual_seed(0)
    found = corners_of(dataset(patches=2000, batch_size=100))
    numbers = [number for number, _, _ in found]
    assert numbers.count(0) == numbers.count(1) == 1000
    for number, (width, height) in enumerate(SIZES):
        lefts, tops = ([corner[axis] for corner in found if corner[0] == number] for axis in (1, 2))
        for places, room in ((lefts, width - 16), (tops, height - 16)):
            counts = np.bincount(places, minlength=room + 1)
            assert len(counts) == room + 1
            assert counts.min() > 0
            # Uniform: each place within five standard deviations of its share.
            expected = 1000 / (room + 1)
            assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_the_seed_decides_and_epochs_differ() -> None:
    epochs = []
    for seed in (1, 1, 2):
        made = dataset(patches=40)
        torch.manual_seed(seed)
        epochs.append([corners_of(made), corners_of(made)])
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    assert sorted(epochs[0][0]) != sorted(epochs[0][1])


def test_fixed_patches_are_the_same_in_another_order() -> None:
    torch.manual_seed(3)
    made = dataset(patches=40, fixed=True)
    first, second = corners_of(made), corners_of(made)
    assert first != second
    assert sorted(first) == sorted(second)
    torch.manual_seed(4)  # and after a new start
    assert sorted(corners_of(dataset(patches=40, fixed=True))) == sorted(first)


@pytest.mark.parametrize(("patches", "batch_size", "batches"), [(10, 4, [4, 4]), (3, 100, [3]), (None, 1, [1, 1])])
def test_batches(patches: int | None, batch_size: int, batches: list[int]) -> None:
    made = dataset(patches=patches, batch_size=batch_size)
    assert [len(batch["image"]) for batch in made] == batches
    assert len(made) == len(batches)


def test_a_photograph_as_large_as_a_patch_is_the_patch_and_a_smaller_one_is_padded() -> None:
    entries = located([(16, 16), (10, 12)])
    made = PatchDataset(entries, load, patch_size=16, patches=None, batch_size=2, progress=False)
    patches = {int(image[2].max()) - 1: (image, label) for image, label in patches_of(made)}
    for number, entry in enumerate(entries):
        image, label = load(entry)["image"], (load(entry)["label"] > 0).float()
        width, height = image.shape[1:]
        torch.testing.assert_close(patches[number][0][:, :width, :height], image, rtol=0, atol=0)
        torch.testing.assert_close(patches[number][1][:, :width, :height], label, rtol=0, atol=0)
        for padded in patches[number]:
            assert not padded[:, width:].any()
            assert not padded[:, :, height:].any()


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_mirrored_and_turned_patches_keep_their_pixels() -> None:
    """Mirror images and quarter turns of real cuts, all eight kinds of them, with their labels."""
    torch.manual_seed(0)
    kinds = set()
    for image, label in patches_of(dataset(patches=200, geometry=RandomGeometry())):
        number = int(image[2, 0, 0]) - 1
        left, top = int(image[0].min()) - 1, int(image[1].min()) - 1
        whole = load(located()[number])
        there = (slice(None), slice(left, left + 16), slice(top, top + 16))
        cut = torch.cat([whole["image"][there], (whole["label"][there] > 0).float()])
        variants = [torch.rot90(c, k, (1, 2)) for c in (cut, cut.flip(1)) for k in range(4)]
        matching = [i for i, variant in enumerate(variants) if torch.equal(variant, torch.cat([image, label]))]
        assert len(matching) == 1
        kinds.add(matching[0])
    assert kinds == set(range(8))


def test_image_and_label_are_changed_together() -> None:
    """A label that is painted into the image is still there after any turning, scaling and shifting."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(2):
        label = torch.from_numpy(np.kron(rng.random((10, 10)) > 0.5, np.ones((5, 5))))[None].float()
        entries.append({"image": f"{number}.png", "label": "", "_": (label.expand(3, -1, -1), label)})
    geometry = RandomGeometry(prob=1, rotate=0.8, scale=0.4, stretch=0.4, shift=0.1)
    made = PatchDataset(entries, load, 24, 50, 10, geometry=geometry, progress=False)
    pairs = patches_of(made)
    assert any(((image > 0) & (image < 1)).any() for image, _ in pairs)  # interpolated
    for image, label in pairs:
        torch.testing.assert_close(label, (image[:1] >= 0.5).float(), rtol=0, atol=0)


def test_intensities_are_those_of_the_photograph_unless_they_are_changed() -> None:
    torch.manual_seed(0)
    plain = patches_of(dataset(fixed=True))
    torch.manual_seed(0)
    changed = patches_of(dataset(fixed=True, intensity=RandomIntensity(brightness=0.5)))
    for (before, label), (after, same) in zip(plain, changed, strict=True):
        added = (after - before).flatten()
        assert 0 < added.abs().max() <= 0.5
        assert added.max() - added.min() < 1e-5
        assert torch.equal(label, same)


# ---- several processes -----------------------------------------------------------------------------------------------

SHARE = """
import json, sys, torch
from tests.datasets.test_patch_dataset import corners_of, dataset
torch.distributed.init_process_group("gloo")
torch.manual_seed(5)
made = dataset(patches=40, batch_size=6, fixed=True)
rank = torch.distributed.get_rank()
with open({folder!r} + f"/{{rank}}.json", "w") as file:
    json.dump([len(made), [corners_of(made), corners_of(made)]], file)
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_the_patches_of_an_epoch(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SHARE.format(folder=str(tmp_path)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script)], cwd=repository, env=environment(repository), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    (length, epochs), (other_length, other_epochs) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert length == other_length == 3  # 20 patches each, in sixes
    available = [list(corner) for corner in corners_of(dataset(patches=40, fixed=True))]
    for mine, theirs in zip(epochs, other_epochs, strict=True):
        assert len(mine) == len(theirs) == 18
        left = list(available)
        for corner in mine + theirs:  # none twice, unless it was drawn twice
            left.remove(corner)
    assert epochs[0] != epochs[1]


# ---- starting and failing --------------------------------------------------------------------------------------------


def test_a_process_that_segments_imports_nothing_for_training(repository: Path) -> None:
    """The bundles import the data sets for inference too; a second at the start of every process is at stake."""
    code = (
        "import sys\n"
        "from monai_r2unet.inference.startup import UNUSED, import_monai_for_segmentation\n"
        "import_monai_for_segmentation()\n"
        "import monai_r2unet.datasets, monai_r2unet.segmenter\n"
        "print(sorted(set(UNUSED) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment(repository), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_whole_photographs_for_validation() -> None:
    entries = located()
    fov = torch.zeros(1, *SIZES[1])
    fov[:, :5] = 1

    def load_with_fov(entry: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {**load(entry), **({"fov": fov} if entry is entries[1] else {})}

    made = PictureDataset(entries, load_with_fov, progress=False)
    assert len(made) == 2
    assert [item["case"] for item in made] == ["0.png", "1.png"]
    assert made[0]["fov"].shape == (1, *SIZES[0])
    assert made[0]["fov"].all()
    assert torch.equal(made[1]["fov"], fov)
    del made[0]["fov"]
    assert "fov" in made[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": (1, 8, 8)}, ["image 0.png has 1 values per pixel, expected 3", "convert it to RGB"]),
        ({"label": (1, 8, 7)}, ["image 0.png has 8 x 8 pixels but its label 0_l.png has 8 x 7"]),
        ({"fov": (1, 9, 8)}, ["its fov 0_f.png has 9 x 8"]),
    ],
)
def test_photographs_that_do_not_fit_are_named(change: dict[str, tuple[int, ...]], words: list[str]) -> None:
    shapes = {"image": (3, 8, 8), "label": (1, 8, 8), "fov": (1, 8, 8), **change}
    entry = {"image": "0.png", "label": "0_l.png", "fov": "0_f.png"}
    with pytest.raises(InputError) as caught:
        PictureDataset([entry], lambda _: {key: torch.zeros(shape) for key, shape in shapes.items()}, progress=False)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("name", ["patch_size", "patches", "batch_size"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0, expected 1 or more"):
        dataset(**{name: 0})
