"""`monai-r2unet new`: what it finds in people's data, what it refuses, and that the bundle it writes is complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser, create_workflow, verify_metadata, verify_net_in_out
from PIL import Image

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import Bundle
from monai_r2unet.bundle.safe_config import first_unsafe_of
from monai_r2unet.inference.config import InferenceConfig
from tests.helpers.bundle_runs import SCHEMA

Drawn = tuple[np.ndarray, np.ndarray]


def organs(seed: int) -> Drawn:
    """A CT of 3 slices with a large and a small organ, int16 HU, and its mask (Z, Y, X)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((3, 32, 40), np.uint8)
    mask[:, 8:22, 4 : 16 + seed] = 1
    mask[:, 12:18, 28:34] = 2
    hu = np.array([0, 110, 220])[mask]
    hu[:, :2] = -1000
    return (hu + rng.normal(0, 5, hu.shape)).astype(np.int16), mask


def photograph(seed: int) -> Drawn:
    mask = np.zeros((40, 48), np.uint8)
    for value in (1, 2, 3):
        mask[10 * value : 10 * value + 8, 5 : 20 + seed] = value
    colours = np.array([[200, 150, 120], [120, 60, 40], [60, 120, 60], [60, 60, 140]], np.uint8)
    return colours[mask], mask


def in_grey(image: np.ndarray, mask: np.ndarray) -> Drawn:
    """16 bits, and a mask of 0 and 255."""
    return image[..., 0].astype(np.uint16) * 257, (mask > 0) * np.uint8(255)


def write_volumes(folder: Path, names: tuple[str, str] = ("images", "masks"), change: Any = None) -> Path:
    for seed in range(4):
        image, mask = organs(seed)
        if change is not None:
            image, mask = change(image, mask)
        for kind, array in zip(names, (image, mask), strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing((2.0, 2.0, 3.0))
            sitk.WriteImage(volume, str(folder / kind / f"case{seed}.nii.gz"))
    return folder


def write_pictures(folder: Path, change: Callable[[np.ndarray, np.ndarray], Drawn] | None = None) -> Path:
    for seed in range(4):
        image, mask = photograph(seed)
        if change is not None:
            image, mask = change(image, mask)
        for kind, array in (("images", image), ("labels", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"eye{seed}.png")
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# ---- what it writes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "modality", "channels", "labels"),
    [
        (write_volumes, ["--labels", "liver, left kidney"], "CT", 1, ["liver", "left kidney"]),
        (write_pictures, [], "photographs", 3, ["label 1", "label 2", "label 3"]),
        (
            lambda folder: write_pictures(
                folder, lambda i, m: (i[..., 0].astype(np.uint16) * 257, (m > 0) * np.uint8(255))
            ),
            [],
            "greyscale pictures",
            1,
            ["foreground"],
        ),
        (
            lambda folder: write_volumes(folder, change=lambda i, m: ((i + 1000).clip(0).astype(np.uint16), m)),
            ["--modality", "mr"],
            "MR",
            1,
            ["label 1", "label 2"],
        ),
    ],
)
def test_a_complete_bundle_is_written_that_needs_no_trust(
    make: Any, options: list[str], modality: str, channels: int, labels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "task", str(make(Path("data"))), *options]) == 0
    out = capsys.readouterr().out
    assert "modality" in out
    bundle = Bundle(Path("task"))
    verify_metadata(meta_file="task/configs/metadata.json", filepath=SCHEMA)
    assert [label["name"] for label in bundle.labels] == labels
    assert bundle.metadata["network_data_format"]["inputs"]["image"]["modality"] == modality
    outputs = bundle.metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    assert outputs == (len(labels) + 1 if len(labels) > 1 else 1)
    assert first_unsafe_of(Path("task/configs/inference.json")) is None
    for name in ("inference", "train"):
        parser = ConfigParser(load(Path("task/configs") / f"{name}.json"))
        network = parser.get_parsed_content("network_def").eval()
        assert network(torch.zeros(1, channels, 32, 32)).shape == (1, outputs, 32, 32)
    for file in ("LICENSE", "docs/README.md", "docs/data_license.txt", "train.json", "logging.conf"):
        assert Path("task", file).read_text()
    datalist = load(Path("task/data/datalist.json"))
    assert [len(datalist[split]) for split in ("training", "validation", "test")] == [2, 1, 1]
    assert all(Path(entry["image"]).is_absolute() for entry in datalist["training"])
    torch.save(InferenceConfig(Path("task"), "cpu").part("network_def").state_dict(), "task/models/model.pt")
    entry = datalist["test"][0]
    mask = Segmenter("./task", "cpu")(entry["image"])
    assert mask.GetSize() == sitk.ReadImage(entry["label"]).GetSize()
    assert not list(Path().glob(".task*"))


def test_the_zoos_checks_pass_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", "task", str(write_volumes(Path("data").absolute()))]) == 0
    moved = Path("elsewhere/moved").absolute()
    moved.parent.mkdir()
    Path("task").rename(moved)
    torch.save(InferenceConfig(moved, "cpu").part("network_def").state_dict(), moved / "models" / "model.pt")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    given = {"meta_file": str(moved / "configs" / "metadata.json"), "bundle_root": str(moved)}
    for kind in ("train", "inference"):
        config = str(moved / "configs" / f"{kind}.json")
        verify_net_in_out("network_def", config_file=config, device="cpu", **given)
        workflow = create_workflow(
            workflow_type=kind,
            config_file=config,
            logging_file=str(moved / "configs" / "logging.conf"),
            **{**given, "output_dir": str(tmp_path / "out"), "device": "cpu"},
        )
        assert workflow.check_properties() == []


@pytest.mark.parametrize(("count", "sets"), [(1, [1, 1, 0]), (2, [1, 1, 0]), (3, [2, 1, 0]), (4, [2, 1, 1])])
def test_few_patients_are_to_learn_from_before_they_are_a_test(count: int, sets: list[int]) -> None:
    write_volumes(Path("data"))
    for path in sorted(Path("data").rglob("case*.nii.gz")):
        if int(path.name[4]) >= count:
            path.unlink()
    assert main(["new", "task", "data", "--labels", "liver,kidney"]) == 0
    datalist = load(Path("task/data/datalist.json"))
    assert [len(datalist.get(split, [])) for split in ("training", "validation", "test")] == sets


@pytest.mark.parametrize(
    ("names", "mirrored", "reason"),
    [
        ("liver,kidney", "RandFlipd", "no label's name has a side"),
        ("upper,bright", "RandFlipd", "no label's name has a side"),
        ("right lung,left lung", "RandMirrord", "right lung and left lung change places in them"),
        ("Kidney_L,kidney_R", "RandMirrord", "Kidney_L and kidney_R change places in them"),
        ("left_lung,heart", None, "left_lung would change sides"),
        ("left lung,right kidney", None, "left lung, right kidney would change sides"),
    ],
)
def test_mirror_images_exchange_sides_or_are_not_shown(
    names: str, mirrored: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(Path("data"))
    assert main(["new", "task", "data", "--labels", names]) == 0
    assert reason in capsys.readouterr().out
    transforms = load(Path("task/configs/train.json"))["train"]["random_transforms"]
    kinds = {one["_target_"].rpartition(".")[2]: one for one in transforms}
    assert {"RandFlipd", "RandMirrord"} & set(kinds) == ({mirrored} if mirrored else set())
    if mirrored == "RandMirrord":
        assert kinds[mirrored]["exchanged"] == [[1, 2]]


def test_forms_of_data_sets_name_their_labels(tmp_path: Path) -> None:
    write_volumes(Path("msd"), ("imagesTr", "labelsTr"))
    entries = [{"image": f"./imagesTr/case{i}.nii.gz", "label": f"./labelsTr/case{i}.nii.gz"} for i in range(4)]
    dataset = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "kidney"}, "training": entries}
    Path("msd/dataset.json").write_text(json.dumps(dataset))
    write_volumes(Path("nnunet"), ("imagesTr", "labelsTr"))
    for path in Path("nnunet/imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "kidney": 2}}
    Path("nnunet/dataset.json").write_text(json.dumps(dataset))
    write_volumes(Path("own"))
    entries = [{"image": f"images/case{i}.nii.gz", "label": f"masks/case{i}.nii.gz"} for i in range(4)]
    datalist = {
        "labels": ["liver", "kidney"],
        "training": entries[:2],
        "validation": [entries[2]],
        "test": [entries[3]],
    }
    Path("own/datalist.json").write_text(json.dumps(datalist))
    for source in ("msd", "nnunet", "own", "own/datalist.json"):
        assert main(["new", "task", source, "--overwrite"]) == 0
        assert Bundle(Path("task")).label_names == ("liver", "kidney")
    assert [Path(e["image"]).name for e in load(Path("task/data/datalist.json"))["test"]] == ["case3.nii.gz"]


def test_a_datalist_in_the_form_of_the_decathlon_is_planned_without_its_unlabelled_images(tmp_path: Path) -> None:
    write_volumes(Path("msd"), ("imagesTr", "labelsTr"))
    entries = [{"image": f"./imagesTr/case{i}.nii.gz", "label": f"./labelsTr/case{i}.nii.gz"} for i in range(4)]
    labels = {"0": "background", "1": "liver", "2": "kidney"}
    datalist = {"labels": labels, "training": entries, "test": ["./imagesTs/case9.nii.gz"]}
    Path("msd/datalist.json").write_text(json.dumps(datalist))
    assert main(["new", "task", "msd"]) == 0
    assert Bundle(Path("task")).label_names == ("liver", "kidney")
    written = load(Path("task/data/datalist.json"))
    assert [len(written.get(split, [])) for split in ("training", "validation", "test")] == [3, 1, 0]


def test_a_data_set_gives_colours_codes_and_patients(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data"))
    lung = {"scheme": "SCT", "value": "39607008", "meaning": "Lung"}
    dataset: dict[str, Any] = {
        "labels": {"0": "background", "1": "big, organ", "2": "kidney"},
        "appearance": {"big, organ": {"colour": [1, 2, 3], "terminology": {"category": lung, "type": lung}}},
        "training": [
            {"image": f"images/case{i}.nii.gz", "label": f"masks/case{i}.nii.gz", "patient": f"p{i // 2}"}
            for i in range(4)
        ],
    }
    Path("data/dataset.json").write_text(json.dumps(dataset))
    assert main(["new", "task", "data"]) == 0
    first, second = Bundle(Path("task")).labels
    assert (first["colour"], first["terminology"]["type"]) == ([1, 2, 3], lung)
    assert second["terminology"]["type"]["meaning"] == "Kidney"
    datalist = load(Path("task/data/datalist.json"))
    sets = {split: {entry["patient"] for entry in datalist.get(split, [])} for split in ("training", "validation")}
    assert not sets["training"] & sets["validation"]

    for change, words in (
        ({"appearance": {"kidney": {"colour": [1, 2, 300]}}}, "an appearance of 'kidney' that cannot be used"),
        ({"appearance": [1]}, "has an appearance of another form"),
        ({"labels": {"0": "background", "1": "$__import__('os').abort()", "2": "b"}}, "begins with $"),
        ({"labels": {"0": "background", "1": "@epochs", "2": "b"}}, "begins with @"),
    ):
        Path("data/dataset.json").write_text(json.dumps({**dataset, **change}))
        assert main(["new", "other", "data"]) == 2
        assert words in capsys.readouterr().err
        assert not Path("other").exists()


# ---- what it refuses -------------------------------------------------------------------------------------------------


def recoloured(image: np.ndarray, mask: np.ndarray) -> Drawn:
    return image, np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)[mask]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda i, m: (i, 0 * m), [], "all 4 masks are empty"),
        (lambda i, m: (i, np.array([0, 1, 5], np.uint8)[m]), [], "values 0, 1, 5, expected 0, 1, 2, ... without gaps"),
        (lambda i, m: (i, m * np.float32(0.5)), [], "holds fractions, from 0 to 1"),
        (lambda i, m: (i, -m.astype(np.int16)), [], "negative values"),
        (lambda i, m: (i, m), ["--labels", "organ"], "holds 2 labels (the values 0, 1, 2), but this bundle has one"),
        (lambda i, m: (i, m), ["--labels", "a,b,c"], "c (3) of 3 labels are in no mask"),
        (lambda i, m: (i, m[:, :-1]), [], "40 x 32 x 3 voxels, but its mask"),
        (lambda i, m: (i, m), ["--modality", "rgb"], "--modality is rgb, but the images have"),
        (lambda i, m: (i, m), ["--labels", "a,,b"], "--labels is 'a,,b'"),
    ],
)
def test_volumes_that_would_lose_labels_are_refused(
    change: Any, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(Path("data"), change=change)
    assert main(["new", "task", "data", *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_colour_coded_masks_are_refused_and_grey_ones_in_rgb_read(capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(Path("colour"), recoloured)
    assert main(["new", "task", "colour"]) == 2
    assert "is colour-coded (4 colours)" in capsys.readouterr().err
    write_pictures(Path("rgb"), lambda image, mask: (image, np.repeat(mask[..., None], 3, -1)))
    assert main(["new", "task", "rgb"]) == 0
    assert len(Bundle(Path("task")).labels) == 3


def test_masks_elsewhere_in_space_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data"))
    mask = sitk.ReadImage("data/masks/case2.nii.gz")
    mask.SetOrigin((0.0, 0.0, 30.0))
    sitk.WriteImage(mask, "data/masks/case2.nii.gz")
    assert main(["new", "task", "data"]) == 2
    assert "case2.nii.gz have the same size but differ in position" in capsys.readouterr().err


def test_sources_and_names_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data"))
    Path("data/masks/case1.nii.gz").rename("data/masks/other.nii.gz")
    Path("empty").mkdir()
    for arguments, words in (
        (["task", "data"], "1 of 4 files have no mask of the same name in data: case1"),
        (["task", "empty"], "empty holds nothing, expected a folder with images/ and masks/"),
        (["task", "none"], "the source none does not exist"),
        (["data", "data"], "data exists already"),
        (["no/task", "data"], "the folder no does not exist"),
        (["a task", "data"], "'a task' is not a valid name for a bundle"),
    ):
        assert main(["new", *arguments]) == 2
        assert words in capsys.readouterr().err


def write_list(folder: Path, **content: Any) -> None:
    (folder / "datalist.json").write_text(json.dumps(content))


def test_lists_that_name_something_twice_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data"))
    entries = [{"image": f"images/case{i}.nii.gz", "label": f"masks/case{i}.nii.gz"} for i in range(4)]
    of_one = [entry | {"patient": 7} for entry in entries]
    for content, words in (
        ({"training": entries[:3], "test": entries[2:]}, "names 1 images twice: data/images/case2.nii.gz"),
        ({"training": of_one[:2], "test": of_one[2:]}, "puts the images of 7 into two sets"),
        ({"labels": ["background", "liver"], "training": entries}, "without the background"),
        ({"labels": ["liver", "Liver"], "training": entries}, "expected different names"),
        ({"labels": {"liver": 1, "kidney": 1}, "training": entries}, "some share a value"),
    ):
        write_list(Path("data"), **content)
        assert main(["new", "task", "data"]) == 2
        assert words in capsys.readouterr().err


def test_files_of_one_name_in_several_folders_are_different_cases() -> None:
    """As image and mask in a folder of each patient."""
    write_volumes(Path("flat"))
    sets: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for number, split in enumerate(("training", "training", "validation", "test")):
        for kind, name in (("images", "ct"), ("masks", "mask")):
            path = Path(f"data/patient{number}/{name}.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            Path(f"flat/{kind}/case{number}.nii.gz").rename(path)
        sets[split].append({"image": f"patient{number}/ct.nii.gz", "label": f"patient{number}/mask.nii.gz"})
    write_list(Path("data"), **sets)
    assert main(["new", "task", "data"]) == 0
    written = load(Path("task/data/datalist.json"))
    assert [[Path(e["image"]).parent.name for e in written[split]] for split in sets] == [
        ["patient0", "patient1"],
        ["patient2"],
        ["patient3"],
    ]


def test_nothing_of_a_data_set_is_left_out_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("nnunet"), ("imagesTr", "labelsTr"))
    Path("nnunet/dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "kidney": 2}}))
    Path("nnunet/labelsTr/case3.nii.gz").unlink()
    write_volumes(Path("two"))
    Path("two/labels").mkdir()
    for source, words in (
        ("nnunet", "1 images in nnunet have no mask: case3"),
        ("two", "two holds masks/ and labels/"),
    ):
        assert main(["new", "task", source]) == 2
        assert words in capsys.readouterr().err


def test_a_bundle_is_not_replaced_with_the_images_that_lie_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("flat"))
    assert main(["new", "task", "flat"]) == 0
    write_volumes(Path("task/mine"))
    assert main(["new", "task", "task/mine", "--overwrite"]) == 2
    assert "task would be replaced with the images and masks that lie in it" in capsys.readouterr().err
    assert len(list(Path("task/mine/images").iterdir())) == 4


def test_an_existing_bundle_stays_unless_it_is_to_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data"))
    assert main(["new", "task", "data"]) == 0
    Path("task/models/model.pt").write_text("weights")
    assert main(["new", "task", "data"]) == 2
    assert "task exists already" in capsys.readouterr().err
    assert Path("task/models/model.pt").read_text() == "weights"
    assert main(["new", "task", "data", "--overwrite"]) == 0
    assert not Path("task/models/model.pt").exists()
