"""The command line: results on standard output, sentences on standard error, exit codes, and no half-written files."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from monai_r2unet.apps.cli.arguments import with_dashes
from monai_r2unet.apps.cli.main import main, parser
from monai_r2unet.bundle import list_bundles
from monai_r2unet.errors import InputError, as_setting, as_switch, sentence_of
from monai_r2unet.files import sha256
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from tests.helpers.lung_examples import LUNG, copy_bundle, small_ct, write_random_weights, write_troubled
from tests.networks.test_weights import Malicious

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lung bundle that works on 64 x 64 pixels with random weights."""
    return copy_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def run(bundles: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line: exit code, standard output, standard error."""
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a chest CT in it."""
    sitk.WriteImage(small_ct(), str(tmp_path / "ct.nii.gz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def values(path: str | Path) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


# ---- bad input: one sentence, exit code 2, nothing written -----------------------------------------------------------


def nifti(name: str, array: np.ndarray) -> str:
    nib.Nifti1Image(array, np.diag([-2.0, -2.0, 3.0, 1.0])).to_filename(name)
    return name


def truncated() -> str:
    Path("cut.nii.gz").write_bytes(Path("ct.nii.gz").read_bytes()[:-2000])
    return "cut.nii.gz"


def empty_folder() -> str:
    Path("empty").mkdir()
    return "empty"


def empty_file() -> str:
    Path("a.nii").touch()
    return "a.nii"


def text(name: str) -> str:
    Path(name).write_text("hello")
    return name


def two_series() -> str:
    Path("series").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for series in "12":
        for z in range(2):
            one = sitk.Cast(small_ct(slices=1)[:, :, 0], sitk.sitkInt16)
            tags = {"0008|0060": "CT", "0020|000e": f"1.2.3.{series}", "0008|0018": f"1.2.3.{series}.{z + 1}"}
            for tag, value in (tags | {"0020|0032": f"0\\0\\{z}", "0020|0037": "1\\0\\0\\0\\1\\0"}).items():
                one.SetMetaData(tag, value)
            writer.SetFileName(f"series/{series}{z}.dcm")
            writer.Execute(one)
    return "series"


def picture(name: str, shape: tuple[int, ...]) -> str:
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=len(shape) == 3), name)
    return name


def holed() -> str:
    array = np.full((32, 32, 2), -1000, np.float32)
    array[3, 4:7, 0] = np.nan, np.inf, -np.inf
    return nifti("holed.nii.gz", array)


INPUTS: dict[str, tuple[Callable[[], str], list[str]]] = {
    "missing file": (lambda: "none.nii.gz", ["none.nii.gz"]),
    "truncated": (truncated, ["cut.nii.gz"]),
    "empty file": (empty_file, ["a.nii", "empty"]),
    "text": (lambda: text("a.nii.gz"), ["a.nii.gz"]),
    "unknown format": (lambda: text("a.xyz"), ["a.xyz", "unknown format"]),
    "empty folder": (empty_folder, ["empty"]),
    "two series": (two_series, ["2 DICOM series", "1.2.3.1", "1.2.3.2", "series"]),
    "four axes": (lambda: nifti("a.nii", np.zeros((32, 32, 2, 3), np.int16)), ["4 axes (32 x 32 x 2 x 3)"]),
    "no voxels": (lambda: nifti("a.nii", np.zeros((32, 0, 2), np.int16)), ["size zero"]),
    "one sagittal slice": (lambda: nifti("a.nii", np.zeros((1, 32, 32), np.int16)), ["1 x 32 voxels are too thin"]),
    "one coronal slice": (lambda: nifti("a.nii", np.zeros((32, 1, 32), np.int16)), ["32 x 1 voxels are too thin"]),
    "photograph": (lambda: picture("a.png", (40, 40, 3)), ["3 values per voxel", "'lung'"]),
    "grey photograph": (lambda: picture("a.png", (40, 40)), ["2D picture", "'lung'"]),
    "not finite": (holed, ["3 voxels that are NaN or infinite", "--allow-nonfinite 3"]),
}


def refused(run: Run, work: Path, arguments: list[object], words: list[str]) -> None:
    before = files(work)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == len(lines) == 1, err
    assert all(word in lines[0] for word in words), err
    assert files(work) == before


@pytest.mark.parametrize("kind", INPUTS)
def test_images_that_cannot_be_segmented(run: Run, work: Path, kind: str) -> None:
    make, words = INPUTS[kind]
    refused(run, work, ["segment", make(), "mask.nii.gz", "--bundle", "lung", "--probabilities", "p.nrrd"], words)


def test_images_with_something_lost(run: Run, work: Path) -> None:
    for name, words in write_troubled(work).items():
        refused(run, work, ["segment", name, "mask.nii.gz", "--bundle", "lung"], [name, words])


def test_images_with_something_lost_fail_alone_in_a_cohort(run: Run, work: Path) -> None:
    (work / "cases").mkdir()
    shutil.copy("ct.nii.gz", "cases/whole.nii.gz")
    troubled = write_troubled(work / "cases")
    code, _, err = run("segment", "cases", "masks", "--bundle", "lung")
    assert code == 3
    for name, words in troubled.items():
        (line,) = [line for line in err.splitlines() if f"cases/{name}" in line and words in line]
        assert "Traceback" not in line
    assert [path.name for path in Path("masks").glob("*.nii.gz")] == ["whole.nii.gz"]


def test_a_series_of_mixed_orientations(run: Run, work: Path, data_root: Path) -> None:
    folder = data_root / "volumes" / "dicom_mixed_orientation_series"
    refused(run, work, ["segment", folder, "m.nii.gz", "--bundle", "lung"], ["different orientations", "sagittal"])


OPTIONS = {
    "unknown bundle": (["--bundle", "liver"], ["'liver'", "lung"]),
    "unknown device": (["--device", "banana"], ["device 'banana'", "'auto' or 'cpu'"]),
    "device that is not there": (["--device", "cuda:99"], ["device 'cuda:99'"]),
    "series of a file": (["--series", "1.2"], ["series"]),
    "weights missing": (["--weights", "none.pt"], ["weights not found", "none.pt"]),
    "weights of an image": (["--weights", "ct.nii.gz"], ["damaged weights", "ct.nii.gz"]),
    "unknown ending of probabilities": (["--probabilities", "p.png"], ["p.png", ".nii.gz"]),
    "probabilities exist": (["--probabilities", "old.nrrd"], ["old.nrrd", "exists", "--overwrite"]),
    "probabilities over the mask": (["--probabilities", "./mask.nii.gz"], ["mask.nii.gz is named twice"]),
    "report exists": (["--report", "old.json"], ["old.json", "exists", "--overwrite"]),
    "report in a missing folder": (["--report", "none/r.json"], ["r.json", "the folder none does not exist"]),
    "report is a folder": (["--overwrite", "--report", "."], ["folder"]),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_cannot_be_met(run: Run, work: Path, kind: str) -> None:
    (work / "old.nrrd").write_text("old")
    (work / "old.json").write_text("old")
    options, words = OPTIONS[kind]
    refused(run, work, ["segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", *options], words)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("old.nii.gz", ["old.nii.gz exists", "--overwrite"]),
        ("mask.bmp", ["mask.bmp", "unknown ending", ".nii.gz"]),
        ("mask.png", ["mask.png", "ct.nii.gz is not a photograph", ".nii.gz"]),
        ("mask", ["unknown ending"]),
        ("none/mask.nii.gz", ["folder none", "does not exist"]),
        ("folder.nrrd", ["is a folder"]),
        ("ct.nii.gz", ["ct.nii.gz exists"]),
    ],
)
def test_outputs_that_cannot_be_written(run: Run, work: Path, output: str, words: list[str]) -> None:
    (work / "old.nii.gz").write_text("old")
    (work / "folder.nrrd").mkdir()
    refused(run, work, ["segment", "ct.nii.gz", output, "--bundle", "lung"], words)


def test_the_image_is_not_overwritten_even_if_asked(run: Run, work: Path) -> None:
    refused(run, work, ["segment", "ct.nii.gz", "./ct.nii.gz", "--bundle", "lung", "--overwrite"], ["named twice"])


def test_weights_that_differ_from_their_checksum(
    run: Run, work: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(bundles, work / "bundles")
    metadata = folder / "lung" / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    content["weights"]["sha256"] = sha256(folder / "lung" / "models" / "model.pt")
    metadata.write_text(json.dumps(content))
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    arguments = ["segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung"]
    assert run(*arguments)[0] == 0
    assert run("doctor")[0] == 0
    (work / "mask.nii.gz").unlink()

    with (folder / "lung" / "models" / "model.pt").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    refused(run, work, list(arguments), ["damaged weights", "model.pt", content["weights"]["sha256"][:12]])
    code, out, _ = run("doctor")
    assert code == 1
    assert "bundle    lung: weights damaged" in out
    assert "weights     damaged" in run("list")[1]
    (folder / "lung" / "models" / "model.pt").unlink()
    refused(run, work, list(arguments), ["weights not found", "train the bundle"])
    assert f"weights     missing: train the bundle before use, see {folder}/lung/docs/README.md" in run("list")[1]
    assert json.loads(run("list", "--json")[1])[0]["weights"] == "missing"


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_weights_that_would_execute_code(run: Run, work: Path, kind: str) -> None:
    content = {"head.weight": Malicious(work / "marker")}
    if kind == "torch":
        torch.save(content, work / "evil.pt")
    else:
        (work / "evil.pt").write_bytes(pickle.dumps(content))
    arguments = ["segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", "--weights", "evil.pt"]
    refused(run, work, list(arguments), ["damaged weights: evil.pt"])
    assert not (work / "marker").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["segment", "a", "b"], ["segment", "a", "b", "--bundle", "lung", "--batch-size", "0"]],
    ids=["nothing", "unknown verb", "no bundle", "batch size 0"],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: monai-r2unet")


def test_options_have_dashes_or_underscores_and_values_stay_as_they_are() -> None:
    words = ["reproduce", "drive", "--out", "my_out", "--data={}", "--batch{}size=4", "--patch{}size", "8"]
    dashes, underscores = (
        parser().parse_args(list(with_dashes([word.format(sign) for word in words]))) for sign in ("-", "_")
    )
    assert (dashes.batch_size, dashes.patch_size, dashes.out) == (4, 8, "my_out")
    assert (dashes.data, underscores.data) == ("-", "_")
    assert vars(dashes) == {**vars(underscores), "data": "-"}
    words = ["view", "--", "--my_image.png"]
    assert parser().parse_args(list(with_dashes(words))).image == "--my_image.png"


def test_each_program_spells_the_option_that_helps_its_own_way(work: Path, run: Run) -> None:
    """Python, the command line and MONAI's; a program without the option leaves it out."""
    error = InputError("a 3 b", remedy="read them as 0", option="allow_nonfinite", value=3)
    assert str(error) == "a 3 b, or read them as 0 with allow_nonfinite=3"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert sentence_of(error, as_switch) == "a 3 b, or read them as 0 with --allow-nonfinite 3"
    assert sentence_of(error, as_setting) == "a 3 b, or read them as 0 with --allow_nonfinite 3"
    assert sentence_of(error) == "a 3 b"
    Path("cases").mkdir()
    Path(holed()).rename("cases/holed.nii.gz")
    code, _, err = run("segment", "cases", "masks", "--bundle", "lung")
    assert code == 3
    assert "failed: holed: the image has 3 voxels that are NaN or infinite: repair it, or read them as -1000" in err
    assert "--allow-nonfinite 3\n" in err


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(
    run: Run, work: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("monai_r2unet.images.masks.write_image", fail)
    before = files(work)
    code, out, err = run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung")
    assert (code, out) == (1, "")
    assert err.splitlines() == ["error: No space left on device"]
    assert files(work) == before


def test_a_fault_of_ours_is_not_passed_off_as_bad_input(
    run: Run, work: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("monai_r2unet.images.masks.write_image", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung")


# ---- segment ---------------------------------------------------------------------------------------------------------


def test_segment_writes_mask_probabilities_and_report(run: Run, work: Path, bundles: Path) -> None:
    outputs = ["--probabilities", "p.nrrd", "--report", "r.json", "--no-clean-up"]
    code, out, err = run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", "--device", "cpu", *outputs)
    assert (code, err) == (0, "")
    mask, image = read_image("mask.nii.gz"), read_image("ct.nii.gz")
    assert same_grid(mask, image)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert read_image("p.nrrd").GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(values("mask.nii.gz"), values("p.nrrd") >= 0.5)

    voxels = np.count_nonzero(values("mask.nii.gz"))
    millilitres = voxels * np.prod(image.GetSpacing()) / 1000
    assert out == f"mask.nii.gz\t{voxels} voxels\t{millilitres:.1f} mL\n"
    report = json.loads(Path("r.json").read_text())
    seconds, versions = report.pop("seconds"), report.pop("versions")
    assert report.pop("precision") in ("float32", "bfloat16")
    assert report.pop("labels")[0]["voxels"] == voxels
    assert report.pop("densitometry")["lung"]["volume_ml"] == pytest.approx(millilitres)
    assert report == {
        "input": "ct.nii.gz",
        "output": "mask.nii.gz",
        "bundle": "lung",
        "bundle_version": "0.1.0",
        "weights": str(bundles / "lung" / "models" / "model.pt"),
        "weights_sha256": sha256(bundles / "lung" / "models" / "model.pt"),
        "device": "cpu",
        "engine": "torch",
        "batch_size": 1,
        "size": [64, 64, 4],
        "spacing_mm": pytest.approx(image.GetSpacing()),
        "voxels": voxels,
        "millilitres": pytest.approx(millilitres),
        "scale": None,
        "warnings": [],
    }
    assert set(seconds) == {"read", "load", "prepare", "infer", "restore", "write"}
    assert all(second >= 0 for second in seconds.values())
    assert versions["torch"] == torch.__version__

    exact = ("--float32", "--cpu-fallback", "--report", "exact.json")
    assert run("segment", "ct.nii.gz", "exact.nii.gz", "--bundle", "lung", *exact)[0] == 0
    assert json.loads(Path("exact.json").read_text())["precision"] == "float32"

    # The same again only if asked, and then with the same result.
    before = files(work)
    refused(run, work, ["segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung"], ["mask.nii.gz exists"])
    again = ["--batch-size", "3", "--overwrite", "--no-clean-up"]
    assert run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", *again) == (0, out, "")
    assert files(work) == before


def test_a_mask_is_written_in_several_formats(run: Run, work: Path) -> None:
    also = ["--also", "mask.seg.nrrd", "--also", "mask.mha", "--report", "r.json"]
    code, out, err = run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", *also)
    assert (code, err) == (0, "")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["mask.nii.gz", "mask.seg.nrrd", "mask.mha"]
    for path in ("mask.seg.nrrd", "mask.mha"):
        np.testing.assert_array_equal(values(path), values("mask.nii.gz"))
    report = json.loads(Path("r.json").read_text())
    assert (report["output"], report["also"]) == ("mask.nii.gz", ["mask.seg.nrrd", "mask.mha"])


@pytest.mark.parametrize(
    ("also", "words"),
    [
        ("mask.nii.gz", ["mask.nii.gz", "twice"]),
        ("ct.nii.gz", ["ct.nii.gz exists"]),
        ("mask.png", ["mask.png", "ct.nii.gz is not a photograph"]),
        ("mask.dcm", ["mask.dcm", "ct.nii.gz"]),
    ],
)
def test_nothing_is_written_if_one_format_cannot_be(run: Run, work: Path, also: str, words: list[str]) -> None:
    refused(run, work, ["segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", "--also", also], words)


def test_own_weights_are_used(run: Run, work: Path, bundles: Path) -> None:
    write_random_weights(work / "own.pt", seed=1)
    assert run("segment", "ct.nii.gz", "shipped.mha", "--bundle", "lung")[0] == 0
    arguments = ["--weights", "own.pt", "--report", "r.json"]
    assert run("segment", "ct.nii.gz", "own.mha", "--bundle", "lung", *arguments)[0] == 0
    assert (values("own.mha") != values("shipped.mha")).any()
    assert json.loads(Path("r.json").read_text())["weights_sha256"] == sha256(work / "own.pt")


def test_one_series_of_several_is_chosen(run: Run, work: Path) -> None:
    arguments = [two_series(), "mask.nii.gz", "--bundle", "lung", "--series", "1.2.3.2"]
    code, _, err = run("segment", *arguments)
    assert (code, err) == (0, "")
    assert read_image("mask.nii.gz").GetSize() == (64, 64, 2)


def test_non_finite_voxels_are_accepted_only_if_allowed(run: Run, work: Path) -> None:
    arguments = ["segment", holed(), "mask.nii", "--bundle", "lung", "--allow-nonfinite"]
    refused(run, work, [*arguments, 2], ["3 voxels"])
    code, _, err = run(*arguments, 3)
    assert code in (0, 4)
    assert "warning: 3 voxels were NaN or infinite and were filled\n" in err
    assert read_image("mask.nii").GetSize() == (32, 32, 2)


def test_values_that_cannot_be_hounsfield_units_are_told(run: Run, work: Path) -> None:
    name = nifti("mr.nii.gz", np.random.default_rng(0).integers(0, 255, (32, 32, 2)).astype(np.int16))
    code, out, err = run("segment", name, "mask.nii.gz", "--bundle", "lung", "--report", "r.json")
    assert code in (0, 4)
    assert out.startswith("mask.nii.gz\t")
    assert err.startswith("warning: the values, 0 to 254, cannot be Hounsfield units")
    assert len(json.loads(Path("r.json").read_text())["warnings"]) == 1


def test_an_empty_result_is_told_and_written(run: Run, work: Path, bundles: Path) -> None:
    weights = torch.load(bundles / "lung" / "models" / "model.pt", weights_only=True)
    weights["head.bias"] -= 1000
    torch.save(weights, work / "blind.pt")
    code, out, err = run("segment", "ct.nii.gz", "mask.nii.gz", "--bundle", "lung", "--weights", "blind.pt")
    assert (code, out) == (4, "mask.nii.gz\t0 voxels\t0.0 mL\n")
    assert err.startswith("warning: nothing was found in ct.nii.gz; the mask is empty.")
    assert err.count("\n") == 1
    assert same_grid(read_image("mask.nii.gz"), read_image("ct.nii.gz"))
    assert not values("mask.nii.gz").any()


def test_a_file_without_orientation_is_told(run: Run, work: Path) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).integers(-1000, 400, (32, 32, 2)).astype(np.int16), None)
    image.to_filename("a.nii.gz")
    code, _, err = run("segment", "a.nii.gz", "mask.nii.gz", "--bundle", "lung")
    assert code in (0, 4)
    assert err.startswith("warning: a.nii.gz has no orientation")


# ---- the other verbs -------------------------------------------------------------------------------------------------


@pytest.fixture
def masks(work: Path) -> tuple[str, str]:
    """A mask and its reference: 6 voxels each, 4 in common, of 60."""
    for name, start in (("p.nrrd", 0), ("r.nii.gz", 2)):
        mask = np.zeros(60, np.uint8)
        mask[start : start + 6] = 1
        sitk.WriteImage(sitk.GetImageFromArray(mask.reshape(3, 4, 5)), name)
    return "p.nrrd", "r.nii.gz"


def test_evaluate_prints_and_writes_the_measures(run: Run, masks: tuple[str, str]) -> None:
    code, out, err = run("evaluate", *masks, "--json", "e.json")
    assert (code, err) == (0, "")
    rows = dict(re.findall(r"^(\w+) +([\d.]+|-)$", out, re.MULTILINE))
    assert rows["dice"] == rows["f1"] == f"{8 / 12:.4f}"
    assert (rows["accuracy"], rows["specificity"], rows["auc"]) == (f"{56 / 60:.4f}", f"{52 / 54:.4f}", "-")
    content = json.loads(Path("e.json").read_text())
    assert (content["prediction"], content["reference"]) == masks
    assert content["pooled"]["dice"] == 8 / 12
    assert content["pooled"]["auc"] is None
    assert [(case["name"], case["tp"], case["fp"], case["fn"], case["tn"]) for case in content["cases"]] == [
        ("p.nrrd", 4, 2, 2, 52)
    ]


def test_evaluate_measures_several_labels_as_one_if_asked(run: Run, masks: tuple[str, str]) -> None:
    expected = run("evaluate", *masks)[1]
    mask = sitk.ReadImage("p.nrrd")
    mask[0, 0, 0] = 2
    sitk.WriteImage(mask, "p.nrrd")
    code, out, err = run("evaluate", *masks)
    assert code == 0
    assert "label 2" in out
    assert err == (
        "warning: the mask has 2 labels, the reference has 1 label: --foreground measures all labels together\n"
    )
    assert run("evaluate", *masks, "--foreground") == (0, expected, "")


def test_evaluate_leaves_no_mask_of_a_folder_out_in_silence(run: Run, work: Path, masks: tuple[str, str]) -> None:
    for folder, mask in (("found", masks[0]), ("expected", masks[1])):
        Path(folder).mkdir()
        sitk.WriteImage(sitk.ReadImage(mask), f"{folder}/a.nii.gz")
    sitk.WriteImage(sitk.ReadImage(masks[0]), "found/b.nii.gz")
    code, _, err = run("evaluate", "found", "expected")
    assert code == 0
    assert err == "warning: 1 of the masks in found have no reference and are left out: b\n"
    Path("found/b.nii.gz").rename("found/a.nrrd")
    code, _, err = run("evaluate", "found", "expected")
    assert code == 0
    assert err == "warning: 1 of the masks in found have the name of another and are left out: a.nrrd\n"


def test_evaluate_refuses_what_cannot_be_compared(run: Run, work: Path, masks: tuple[str, str]) -> None:
    image = sitk.ReadImage("r.nii.gz")
    image.SetOrigin((0, 0, 1))
    sitk.WriteImage(image, "moved.nii.gz")
    sitk.WriteImage(image[:, :, :2], "short.nii.gz")
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32) * 0.3, "fractions.nii.gz")
    Path("old.json").write_text("old")
    refused(run, work, ["evaluate", "p.nrrd", "moved.nii.gz"], ["p.nrrd", "moved.nii.gz", "the same grid"])
    refused(run, work, ["evaluate", "p.nrrd", "short.nii.gz"], ["5 x 4 x 3", "5 x 4 x 2", "the same grid"])
    refused(run, work, ["evaluate", "moved.nii.gz", "fractions.nii.gz"], ["fractions"])
    refused(run, work, ["evaluate", "none.nrrd", "p.nrrd"], ["none.nrrd"])
    refused(run, work, ["evaluate", *masks, "--json", "old.json"], ["old.json exists", "--overwrite"])
    assert run("evaluate", *masks, "--json", "old.json", "--overwrite")[0] == 0


def test_list_names_task_licence_and_weights(run: Run) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert out.startswith("lung 0.1.0: Segmentation of the right and the left lung")
    assert "weights     present" in out
    (row,) = json.loads(run("list", "--json")[1])
    assert (row["name"], row["weights"], row["labels"]) == ("lung", "present", ["lung"])
    assert row["trained_on"]
    assert row["licence"]


def test_doctor_tells_of_machine_and_bundles(run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "bundle    lung: weights present" in out
    assert out.endswith("ready to segment\n")
    examination = json.loads(run("doctor", "--json")[1])
    assert examination["usable"] is True
    assert examination["bundles"] == {"lung": "present"}
    assert examination["devices"][0] == "cpu"
    assert examination["versions"]["torch"] == torch.__version__


def test_prepare_makes_what_training_reads(run: Run, work: Path) -> None:
    source = work / "scans"
    source.mkdir()
    for case in "abc":
        sitk.WriteImage(small_ct(), str(source / f"{case}_ct.nii.gz"))
        sitk.WriteImage(small_ct(kind="labels"), str(source / f"{case}_lung.nii.gz"))
    (source / "split.csv").write_text("case,split\na,train\nb,val\nc,test\n")
    code, out, err = run("prepare", "lung", source, "data", "--slices-per-case", 2)
    assert (code, out, err) == (0, "data\ttraining 1\tvalidation 1\ttest 1\n", "")
    datalist = json.loads((work / "data" / "datalist.json").read_text())
    assert datalist["test"] == [{"image": "images/c.nii.gz", "label": "labels/c.nii.gz"}]
    assert read_image("data/images/c.nii.gz").GetSize() == (64, 64, 2)
    refused(run, work, ["prepare", "lung", "none", "other"], ["none"])
    code, out, err = run("prepare", "lung", "data/images", "other")
    assert (code, out) == (2, "")
    assert err.startswith("error: data/images fits no layout")  # and lists the layouts, a line each
    assert not (work / "other").exists()


# ---- as a process ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize(
    ("imported", "arguments"),
    [
        ("monai_r2unet.bundle", ["segment", "ct.nii.gz", "m.nrrd", "--bundle", "lung"]),
        ("torch.nn", ["segment", "ct.nii.gz", "m.nrrd", "--bundle", "lung"]),
        ("monai.transforms", ["segment", "ct.nii.gz", "m.nrrd", "--bundle", "lung"]),
        ("torch.nn", ["doctor"]),
        ("monai.transforms", ["new", "task", "."]),
    ],
)
def test_ctrl_c_during_the_imports_is_one_word(work: Path, imported: str, arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "monai_r2unet", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(LUNG.parents[1])}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as started:
        signal.signal(signal.SIGINT, before)
        assert started.stderr is not None
        for line in started.stderr:
            if line.rpartition("|")[2].strip() == imported:
                started.send_signal(signal.SIGINT)
                break
        told = [line for line in started.stderr if not line.startswith("import time:")]
    assert told == ["interrupted\n"]
    assert started.returncode == 130
    assert not Path("m.nrrd").exists()


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai_r2unet", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(LUNG.parents[1])}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_process_helps() -> None:
    done = process("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: monai-r2unet")
    assert all(verb in done.stdout for verb in ("segment", "evaluate", "prepare", "list", "doctor"))


def test_the_process_keeps_its_outputs_apart(work: Path) -> None:
    """With the shipped configuration: nothing but the result on one, nothing but our own sentences on the other."""
    weights = write_random_weights(work / "w.pt")
    sitk.WriteImage(small_ct(slices=1), "one.nii.gz")
    done = process("segment", "one.nii.gz", "m.nii.gz", "--bundle", "lung", "--weights", weights, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    mask = values("m.nii.gz")
    named = [("m.nii.gz", mask > 0), ("  right lung", mask == 1), ("  left lung", mask == 2)]
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        [name, f"{np.count_nonzero(found)} voxels"] for name, found in named
    ]
    assert all(line.endswith(" mL") for line in done.stdout.splitlines())


# ---- the shipped weights ---------------------------------------------------------------------------------------------


def test_doctor_finds_the_shipped_bundles_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    examination = json.loads(capsys.readouterr().out)
    assert examination["usable"] is True
    # Those without a checksum have not been trained yet.
    expected = {bundle.name: "present" if bundle.weights_sha256 else "missing" for bundle in list_bundles()}
    assert examination["bundles"] == expected
    assert expected["lung"] == "present"
