"""Masks of photographs as data sets hold them, fields of view, the real data, and the samples of the bundles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_r2unet.datasets import chase_db1, drive, load_datalist, skin, stare
from monai_r2unet.datasets.pictures import foreground, hold_out_last
from monai_r2unet.errors import InputError
from monai_r2unet.images.field_of_view import field_of_view
from monai_r2unet.images.reading import read_image
from tests.helpers.arrays import pixels
from tests.helpers.picture_examples import SKIN_NAMES, SPLITS, STARE_NAMES, below, disc

# ---- masks -----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 99),
    stored=st.sampled_from([(0, 1), (0, 255), (0, 128), (1, 2), (4, 252), (0, 65535)]),
    channels=st.sampled_from([1, 3]),
)
def test_masks_of_two_values_are_binarised(seed: int, stored: tuple[int, int], channels: int) -> None:
    on = np.random.default_rng(seed).random((6, 7)) > 0.5
    on[0, :2] = (True, False)
    array = np.where(on, stored[1], stored[0]).astype(np.uint16 if max(stored) > 255 else np.uint8)
    mask = sitk.GetImageFromArray(np.stack([array] * 3, -1) if channels == 3 else array, isVector=channels == 3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(foreground(mask, "a.png")), np.where(on, 255, 0))


def test_smoothed_and_compressed_masks_are_cut_at_half(tmp_path: Path) -> None:
    on = disc()
    smoothed = Image.fromarray((255 * on).astype(np.uint8)).resize((96, 80), Image.Resampling.BICUBIC)
    smoothed = smoothed.resize((48, 40), Image.Resampling.BOX)
    assert len(np.unique(np.asarray(smoothed))) > 2
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(foreground(sitk.GetImageFromArray(np.asarray(smoothed)), "a.png")), np.where(on, 255, 0)
    )
    Image.fromarray((255 * on).astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    read = read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(foreground(read, "a.jpg")), np.where(on, 255, 0))


def test_masks_of_one_value() -> None:
    for value, expected in ((0, 0), (1, 255), (255, 255)):
        mask = sitk.GetImageFromArray(np.full((4, 5), value, np.uint8))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(foreground(mask, "a.png")), expected)


@given(st.sets(st.text("abc", min_size=1, max_size=3), max_size=6), st.integers(0, 3))
def test_validation_is_never_all_there_is(names: set[str], count: int) -> None:
    sets = hold_out_last(names, count)
    assert set(sets) == names
    held_out = sorted(name for name, split in sets.items() if split == "validation")
    assert held_out == sorted(names)[len(names) - len(held_out) :]
    assert len(held_out) == min(count, max(len(names) - 1, 0))


# ---- fields of view --------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(radius=st.integers(50, 100), dark=st.integers(1, 30), bright=st.integers(100, 255), seed=st.integers(0, 99))
def test_a_disc_is_found_whatever_its_brightness(radius: int, dark: int, bright: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :180]
    distance = np.hypot(y - 80, x - 90)  # larger ones are cut at the edges, as in STARE
    red = np.where(distance < radius, bright * (1 - 0.5 * distance / radius), 0) + rng.integers(0, dark, (160, 180))
    red[60:64, 80:84] = 0  # a hole
    red[2:6, 2:6] = 255  # a mark
    photograph = np.stack([red.clip(0, 255)] * 3, axis=-1).astype(np.uint8)
    found = sitk.GetArrayFromImage(field_of_view(sitk.GetImageFromArray(photograph, isVector=True)))
    assert set(np.unique(found)) <= {0, 255}
    assert dice(found > 0, distance < radius) > 0.99
    assert found[62, 82]
    assert not found[4, 4] or distance[4, 4] < radius


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_grey_photograph_has_no_red_channel() -> None:
    with pytest.raises(InputError, match="grey"):
        field_of_view(sitk.Image([40, 40], sitk.sitkUInt8))


# ---- the real data ---------------------------------------------------------------------------------------------------


def test_made_fields_of_view_agree_with_those_at_hand(data_root: Path) -> None:
    pairs = [
        (data_root / f"drive/{part}/images/{n}_{part}.tif", data_root / f"drive/{part}/fov/{n}_{part}_mask.gif")
        for part, n in (("test", "01"), ("test", "08"), ("training", "23"), ("training", "32"))
    ]
    images = sorted((data_root / "stare/images").iterdir())
    given = sorted((data_root / "stare/fov").iterdir())  # numbered in order, not named like the photographs
    pairs += [(images[index], given[index]) for index in (1, 3, 5)]
    pairs.append((data_root / "chase_db1/images/Image_09L.jpg", data_root / "chase_db1/fov/Image_09L.gif"))
    for photograph, given_mask in pairs:
        found = sitk.GetArrayFromImage(field_of_view(read_image(photograph)))
        expected = sitk.GetArrayFromImage(foreground(read_image(given_mask), given_mask))
        assert dice(found > 0, expected > 0) > 0.994, photograph


PREPARE: dict[str, Callable[..., dict]] = {
    "drive": drive.prepare,
    "stare": stare.prepare,
    "chase_db1": chase_db1.prepare,
    "skin": skin.prepare,
}


@pytest.mark.parametrize("name", PREPARE)
def test_real_files_are_prepared(data_root: Path, tmp_path: Path, name: str) -> None:
    """A few files of each data set, as they lie, through links."""
    wanted = {
        "drive": ("01_", "21_", "22_", "23_"),
        "stare": tuple(STARE_NAMES[:4]),
        "chase_db1": ("Image_01L", "Image_10L", "Image_11L"),
        "skin": tuple(SKIN_NAMES),
    }[name]
    root = data_root / ("isic2017" if name == "skin" else name)
    for path in root.rglob("*.*"):
        if path.name.startswith(wanted) and not (name != "drive" and path.parent.name == "fov"):
            link = tmp_path / "in" / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    PREPARE[name](tmp_path / "in", tmp_path / "out")
    entries = list(chain(*load_datalist(tmp_path / "out").values()))
    assert sorted(Path(entry["image"]).name[: len(wanted[0])] for entry in entries) == sorted(wanted)
    for entry in entries:
        size = pixels(entry["image"]).shape
        assert size == {"drive": (584, 565, 3), "stare": (605, 700, 3), "chase_db1": (960, 999, 3)}.get(
            name, (256, 256, 3)
        )
        for key in ("label", "label_2", "fov"):
            if key in entry:
                mask = pixels(entry[key])
                assert mask.shape == size[:2]
                assert set(np.unique(mask)) == {0, 255}
                if key != "fov" and name != "skin":
                    assert 0.03 < (mask > 0).mean() < 0.2


# ---- the samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "licence"), [("chase_db1", "CC BY 4.0"), ("skin", "CC0")])
def test_samples_are_small_parts_of_the_whole_division(repository: Path, name: str, licence: str) -> None:
    sample = repository / "bundles" / name / "sample"
    assert sum(len(content) for content in below(sample).values()) < 1_500_000
    assert f"[{licence}](https://creativecommons.org/" in (sample / "README.md").read_text()
    sets = load_datalist(sample)
    assert list(sets) == list(SPLITS)
    table = dict(line.split(",") for line in skin.PAPER_SPLIT.read_text().split()[1:])
    used = {"README.md", "datalist.json"}
    for split, entries in sets.items():
        for entry in entries:
            stem = Path(entry["image"]).stem
            if name == "skin":
                assert split.startswith(table[stem])
            else:
                assert (split == "test") is (stem >= chase_db1.FIRST_OF_TEST)
                assert (split == "validation") is stem.startswith("Image_10")
            size = read_image(entry["image"]).GetSize()
            for key in entry.keys() & {"label", "label_2", "fov"}:
                assert read_image(entry[key]).GetSize() == size
                assert set(np.unique(pixels(entry[key]))) == {0, 255}
            used |= {str(Path(path).relative_to(sample)) for key, path in entry.items() if key != "patient"}
    assert used == set(below(sample))


def test_nothing_of_drive_and_stare_is_in_the_repository(repository: Path) -> None:
    for name in ("drive", "stare"):
        folder = repository / "bundles" / name
        assert [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".tif", ".gif", ".gz")] == []
