"""Preparation of DRIVE, STARE, CHASE_DB1 and ISIC 2017, from small made-up files of the form of the downloads."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from monai_r2unet.apps.cli.main import main
from monai_r2unet.datasets import chase_db1, drive, load_datalist, skin, stare
from monai_r2unet.errors import InputError
from tests.helpers.arrays import pixels
from tests.helpers.picture_examples import (
    SIZE,
    SKIN_NAMES,
    SPLITS,
    STARE_NAMES,
    Files,
    below,
    chase_files,
    disc,
    drive_files,
    encoded,
    fundus,
    skin_files,
    stare_files,
    tarred,
    unfold,
    vessels,
    zipped,
)

SETS: dict[str, tuple[Callable[..., dict], Callable[[], Files]]] = {
    "drive": (drive.prepare, drive_files),
    "stare": (stare.prepare, stare_files),
    "chase_db1": (chase_db1.prepare, chase_files),
    "skin": (skin.prepare, lambda: skin_files(SKIN_NAMES)),
}


def names_in(datalist: dict) -> dict[str, list[str]]:
    return {split: [Path(entry["image"]).stem for entry in datalist.get(split, [])] for split in SPLITS}


# ---- each data set ---------------------------------------------------------------------------------------------------


def test_drive_keeps_its_division_and_its_fields_of_view(tmp_path: Path) -> None:
    datalist = drive.prepare(unfold(drive_files(), tmp_path / "in"), tmp_path / "out")
    assert names_in(datalist) == {
        "training": ["21_training", "22_training", "23_training"],
        "validation": ["24_training", "25_training"],
        "test": ["01_test", "02_test", "03_test"],
    }
    for split in SPLITS:
        for entry in load_datalist(tmp_path / "out", split):
            number = int(Path(entry["image"]).name[:2])
            np.testing.assert_array_equal(pixels(entry["image"]), fundus(number))
            np.testing.assert_array_equal(pixels(entry["label"]), vessels(number))
            np.testing.assert_array_equal(pixels(entry["fov"]), 255 * disc(19))
            assert ("label_2" in entry) is (split == "test")
            if split == "test":
                np.testing.assert_array_equal(pixels(entry["label_2"]), vessels(number + 50))


def test_drive_of_today_has_no_masks_of_the_test_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {name: content for name, content in drive_files().items() if "test/1st" not in name}
    datalist = drive.prepare(unfold(files, tmp_path / "in"), tmp_path / "out")
    assert "no masks of the test images" in caplog.text
    assert {split: len(names) for split, names in names_in(datalist).items()} == {
        "training": 3,
        "validation": 2,
        "test": 0,
    }
    del files["training/1st_manual/22_manual1.gif"]
    with pytest.raises(InputError, match=r"1 of 5 images in .* have no mask: 22"):
        drive.prepare(unfold(files, tmp_path / "less"), tmp_path / "other")


def test_stare_leaves_each_photograph_out_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    datalist = stare.prepare(unfold(stare_files(), tmp_path / "in"), out)
    assert names_in(datalist) == {
        "training": ["im0002", "im0044"],
        "validation": ["im0077", "im0139"],
        "test": ["im0001"],
    }
    assert sorted(path.name for path in (out / "leave_out").iterdir()) == STARE_NAMES
    for left_out in STARE_NAMES:
        fold = load_datalist(out / "leave_out" / left_out)
        parts = names_in(fold)
        assert parts["test"] == [left_out]
        assert sorted(chain(*parts.values())) == STARE_NAMES
        assert parts["validation"] == [name for name in STARE_NAMES if name != left_out][-2:]
        for entry in chain(*fold.values()):
            seed = STARE_NAMES.index(Path(entry["image"]).stem)
            np.testing.assert_array_equal(pixels(entry["image"]), fundus(seed))
            np.testing.assert_array_equal(pixels(entry["label"]), vessels(seed))
            np.testing.assert_array_equal(pixels(entry["label_2"]), vessels(seed + 50))
    assert load_datalist(out) == load_datalist(out / "leave_out" / "im0001")


def test_chase_keeps_the_eyes_of_a_child_together(tmp_path: Path) -> None:
    files = chase_files()
    datalist = chase_db1.prepare(unfold(files, tmp_path / "in"), tmp_path / "out")
    assert names_in(datalist) == {
        "training": ["Image_01L", "Image_01R", "Image_09L", "Image_09R"],
        "validation": ["Image_10L", "Image_10R"],
        "test": ["Image_11L", "Image_11R", "Image_14L", "Image_14R"],
    }
    assert datalist["validation"][0] == {
        "image": "images/Image_10L.jpg",
        "label": "labels/Image_10L.png",
        "label_2": "labels_2/Image_10L.png",
        "fov": "fov/Image_10L.png",
        "patient": "Image_10",
    }
    assert (tmp_path / "out/images/Image_10L.jpg").read_bytes() == files["Image_10L.jpg"]
    np.testing.assert_array_equal(pixels(tmp_path / "out/labels/Image_10L.png"), vessels(4))


def test_skin_takes_the_division_of_the_paper_the_official_one_or_a_table(tmp_path: Path) -> None:
    source = unfold(skin_files(SKIN_NAMES), tmp_path / "in")
    table = dict(line.split(",") for line in skin.PAPER_SPLIT.read_text().split()[1:])
    counts = {split: list(table.values()).count(split) for split in ("train", "val", "test")}
    assert counts == {"train": 1250, "val": 150, "test": 600}
    spelled = {"train": "training", "val": "validation", "test": "test"}
    datalist = skin.prepare(source, tmp_path / "paper")
    assert datalist["name"] == "skin"
    for split, names in names_in(datalist).items():
        assert names == [name for name in SKIN_NAMES if spelled[table[name]] == split]
    assert all(set(entry) == {"image", "label"} for split in SPLITS for entry in datalist.get(split, []))

    (tmp_path / "own.csv").write_text("case,split\nISIC_0000003,test\nISIC_0000001,train\n")
    own = skin.prepare(source, tmp_path / "own", split=tmp_path / "own.csv")
    assert names_in(own) == {"training": ["ISIC_0000001"], "validation": [], "test": ["ISIC_0000003"]}

    with pytest.raises(InputError, match="lacks the official parts validation, test_v2"):
        skin.prepare(source, tmp_path / "none", split="official")
    for part, name in (("Validation", "ISIC_0001769"), ("Test_v2", "ISIC_0012086")):
        (source / f"ISIC-2017_{part}_Data.zip").write_bytes(zipped(skin_files([name], part)))
    official = skin.prepare(source, tmp_path / "official", split="official")
    assert names_in(official) == {"training": SKIN_NAMES, "validation": ["ISIC_0001769"], "test": ["ISIC_0012086"]}
    assert names_in(skin.prepare(source, tmp_path / "again")) == names_in(datalist)


# ---- downloads as they come, and as they should not ------------------------------------------------------------------


def packed(name: str, files: Files, folder: Path) -> Path:
    """The files as their archives hold them."""
    if name == "drive":  # archives in an archive
        parts = {
            f"{part}.zip": zipped({k: v for k, v in files.items() if k.startswith(part)})
            for part in ("training", "test")
        }
        return unfold({"datasets.zip": zipped(parts)}, folder) / "datasets.zip"
    if name == "stare":  # an archive for each folder
        parts = {path.split("/")[0] for path in files}
        tars = {f"{p}.tar": tarred({k.split("/")[1]: v for k, v in files.items() if k.startswith(p)}) for p in parts}
        return unfold(tars, folder)
    return unfold({"download.zip": zipped(files)}, folder)


@pytest.mark.parametrize("name", SETS)
def test_archives_give_what_folders_give_and_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    prepare, files = SETS[name]
    prepare(unfold(files(), tmp_path / "in"), tmp_path / "out")
    prepare(packed(name, files(), tmp_path / "packed"), tmp_path / "deep" / "from_archive")
    assert below(tmp_path / "deep" / "from_archive") == below(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "packed", "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["from_archive"]


def test_archives_that_cannot_be_unpacked(tmp_path: Path) -> None:
    content = zipped(chase_files())
    sources = {
        "cut.zip": content[: len(content) // 2],
        "bad.zip": content[:200] + bytes(60) + content[260:],
        "cut.tar": tarred(stare_files())[:3000],
        "text.tar.gz": b"nothing",
    }
    for name, damaged in sources.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=f"the archive .*{name} cannot be unpacked"):
            chase_db1.prepare(tmp_path / name, tmp_path / "out")
    (tmp_path / "out_of_it.tar").write_bytes(tarred({"../../evil.png": b"x"}))
    with pytest.raises(InputError, match="cannot be unpacked"):
        chase_db1.prepare(tmp_path / "out_of_it.tar", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {*sources, "out_of_it.tar"}


def test_an_unpacked_archive_is_not_read_twice(tmp_path: Path) -> None:
    source = unfold(chase_files(), tmp_path / "in/CHASEDB1").parent
    (source / "CHASEDB1.zip").write_bytes(zipped(chase_files()))
    assert len(chase_db1.prepare(source, tmp_path / "out")["test"]) == 4
    (source / "copy.zip").write_bytes(zipped(chase_files()))
    with pytest.raises(InputError, match="are the same file twice"):
        chase_db1.prepare(source, tmp_path / "other")


@pytest.mark.parametrize("name", SETS)
def test_sources_that_are_something_else(name: str, tmp_path: Path) -> None:
    prepare, files = SETS[name]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"holds no images of {name}; expected .*"):
        prepare(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        prepare(tmp_path / "none", tmp_path / "out")
    images = {path: content for path, content in files().items() if "manual1" not in path}
    images = {path: c for path, c in images.items() if not path.endswith(("1stHO.png", "_segmentation.png"))}
    images = {path: content for path, content in images.items() if ".ah." not in path}
    with pytest.raises(InputError, match=r"images in .* have no mask: "):
        prepare(unfold(images, tmp_path / "images"), tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="neither a folder nor an archive"):
        prepare(tmp_path / "file", tmp_path / "out")
    with pytest.raises(InputError, match="file is a file"):
        prepare(unfold(files(), tmp_path / "in"), tmp_path / "file")
    assert not (tmp_path / "out").exists()


def test_pairs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def refused(words: str, **changed: bytes) -> None:
        files = chase_files() | {name.replace("__", "."): content for name, content in changed.items()}
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        with pytest.raises(InputError, match=words):
            chase_db1.prepare(unfold(files, tmp_path / "in"), tmp_path / "out")
        assert not (tmp_path / "out" / "datalist.json").exists()

    refused(
        r"Image_01L\.jpg has 48 x 40 pixels but its mask .*Image_01L_1stHO\.png has 48 x 39",
        Image_01L_1stHO__png=encoded(vessels(0)[:-1], "PNG"),
    )
    refused(r"Image_01L\.jpg is not a photograph in RGB", Image_01L__jpg=encoded(vessels(0), "JPEG"))
    refused(r"Image_01R\.jpg could not be read", Image_01R__jpg=encoded(fundus(1), "JPEG")[:-300])
    refused(
        r"the mask .*Image_09L_2ndHO\.png holds 2 labels \(the values 0, 1, 2\), but this bundle has one",
        Image_09L_2ndHO__png=encoded(np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8), "PNG"),
    )
    refused("no bright disc fills 20%", Image_01L__jpg=encoded(0 * fundus(0), "JPEG"))


def test_an_interrupted_run_is_repeated_without_overwriting(tmp_path: Path) -> None:
    source, out = unfold(chase_files(), tmp_path / "in"), tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chase_db1.prepare(source, out, progress=interrupt)
    assert not (out / "datalist.json").exists()
    before = below(out)
    assert len(before) == 3 * 4
    (out / "fov/Image_01L.png").write_bytes(b"somebody else's")
    steps: list[tuple[int, int]] = []
    chase_db1.prepare(source, out, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 10) for done in range(1, 11)]
    after = below(out)
    assert after.pop("fov/Image_01L.png") == b"somebody else's"
    assert {name: after[name] for name in before if name in after} == {
        name: content for name, content in before.items() if name in after
    }
    with pytest.raises(InputError, match="holds the data list of another data set"):
        skin.prepare(unfold(skin_files(SKIN_NAMES), tmp_path / "skin"), out)


def test_parts_of_a_data_set_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chase_db1.prepare(unfold(chase_files(), tmp_path / "in"), tmp_path / "out")
    assert caplog.messages == [f"{tmp_path / 'in'} holds 10 of the 28 images of chase_db1"]
    assert caplog.records[0].levelno == logging.WARNING


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(unfold(skin_files(SKIN_NAMES), tmp_path / "in"))
    (tmp_path / "own.csv").write_text("id,split\nISIC_0000003,test\n")
    arguments = ["prepare", "skin", source, str(tmp_path / "out"), "--split", str(tmp_path / "own.csv")]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\ttraining 0\tvalidation 0\ttest 1\n"
    assert main(["prepare", "drive", source, str(tmp_path / "drive")]) == 2
    assert "holds no images of drive" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "drive", source, str(tmp_path / "drive"), "--split", "x.csv"])
    assert "unrecognized arguments: --split" in capsys.readouterr().err
