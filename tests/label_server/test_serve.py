"""What is done before the server starts, and what of MONAI Label is put right."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from label_server.checks import check_studies
from label_server.dicomweb import describe, put_on_grid
from label_server.fine_tuning import FineTuning
from label_server.serve import prepare
from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError

SAMPLE = Path(__file__).resolve().parents[2] / "bundles" / "lung" / "sample" / "images"


def start(*arguments):
    return subprocess.run([sys.executable, "-m", "label_server.serve", *arguments], capture_output=True, text=True)


def test_the_server_works_on_a_copy_and_keeps_what_was_trained(tmp_path):
    lung = find_bundle("lung")
    prepare(tmp_path, [lung])
    models = tmp_path / "model" / "lung" / "models"
    assert {path.read_bytes() for path in models.iterdir()} == {lung.weights.read_bytes()}
    (models / "model.pt").write_bytes(b"trained")
    (models / "shipped.pt").write_bytes(b"old")
    prepare(tmp_path, [lung])
    assert (models / "model.pt").read_bytes() == b"trained"
    assert (models / "shipped.pt").read_bytes() == lung.weights.read_bytes()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--studies", "nowhere"), "the folder nowhere with the images does not exist"),
        (("--studies", ""), "STUDIES=folder"),
        (("--studies", __file__), "is a file, expected a folder"),
        (("--studies", str(Path(__file__).parent)), "expected files ending in .nii.gz"),
        (("--studies", "http://127.0.0.1:9/dicom-web"), "no archive answers at http://127.0.0.1:9/dicom-web"),
        (("--studies", str(SAMPLE), "--bundles", "liver"), "unknown bundle 'liver'"),
        (("--studies", str(SAMPLE), "--port", "70000"), "choose another --port"),
        (("--studies", str(SAMPLE), "--host", "nowhere.invalid"), "cannot listen at nowhere.invalid"),
    ],
)
def test_bad_arguments_end_in_one_sentence(tmp_path, arguments, sentence):
    ended = start(*arguments, "--work", str(tmp_path / "work"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "work").exists()


def test_an_occupied_port_ends_in_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = start("--studies", str(SAMPLE), "--port", str(port), "--work", str(tmp_path / "work"))
    assert ended.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_images_are_known_by_their_ending_and_an_empty_folder_waits_for_some(tmp_path):
    check_studies(str(tmp_path))
    (tmp_path / "labels").mkdir()  # as MONAI Label leaves it
    check_studies(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="there are no images"):
        check_studies(str(tmp_path))
    (tmp_path / "IMG_1.JPG").touch()
    check_studies(str(tmp_path))


@pytest.mark.parametrize(
    ("images", "share", "training", "validation"),
    [(1, 0.2, 1, 1), (2, 0.2, 1, 1), (10, 0.2, 8, 2), (10, 0, 10, 10), (3, 0.99, 1, 2), (3, -1, 3, None)],
)
def test_some_labels_are_kept_for_validation(tmp_path, images, share, training, validation):
    prepare(tmp_path, [find_bundle("lung")])
    task = FineTuning(find_bundle(tmp_path / "model" / "lung", trusted=True), {})
    data = [{"image": str(number), "label": str(number)} for number in range(images)]
    train, val = task._partition_datalist(data, {"val_split": share})
    assert (len(train), None if val is None else len(val)) == (training, validation)
    if share > 0 and images > 1:
        assert sorted(train + val, key=data.index) == data


def test_segments_are_described_by_their_name_and_left_alone_without():
    labels = find_bundle("lung").labels
    (lung, other) = describe([{"name": "Left lung", "idx": 3}, {"name": "stone", "idx": 4}], labels)
    assert lung["segmentAttribute"]["labelID"] == 3
    assert lung["segmentAttribute"]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "39607008"
    assert lung["color"] == labels[1]["colour"]
    assert other == {"name": "stone", "idx": 4}
    assert [segment["name"] for segment in describe([], labels)] == ["right lung", "left lung"]


def test_a_label_of_some_slices_is_put_where_they_are(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((6, 4, 5), np.int16))
    image.SetSpacing((1.5, 2, 3))
    image.SetOrigin((-7, 8, 9))
    mask = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 2, (2, 4, 5)).astype(np.uint8))
    mask.SetSpacing(image.GetSpacing())
    mask.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, 3)))
    paths = [str(tmp_path / name) for name in ("label.nrrd", "image.nrrd")]
    for one, path in zip((mask, image), paths, strict=True):
        sitk.WriteImage(one, path)
    put_on_grid(*paths)
    put_on_grid(*paths)  # once is enough
    whole = sitk.ReadImage(paths[0])
    assert whole.GetOrigin() == image.GetOrigin()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(whole)[3:5], sitk.GetArrayFromImage(mask))
    assert sitk.GetArrayFromImage(whole).sum() == sitk.GetArrayFromImage(mask).sum()


def test_no_file_set_is_opened_where_pydicom_follows_paths_out_of_its_folder():
    """CVE-2026-32711: pydicom before 3.0.2, which MONAI Label needs, copies files that a DICOMDIR names anywhere."""
    code = "import sys, label_server.app, monailabel.datastore.dicom; print('pydicom.fileset' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    for package in ("monailabel", "pydicom_seg", "label_server", "monai_r2unet"):
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in folder.rglob("*.py"):
            assert "fileset" not in path.read_text(encoding="utf-8", errors="replace").lower(), path
