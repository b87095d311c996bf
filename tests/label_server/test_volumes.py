"""CT in a folder: everything a labelling session does, by MONAI Label's own client."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from monailabel.client.client import MONAILabelClientException

from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import sha256
from monai_r2unet.images.grid import same_grid
from monai_r2unet.metrics import confusion
from tests.helpers.lung_examples import write_troubled

CASES = ("LCTSC_000", "LCTSC_006", "LCTSC_008")
KEY = "uncertainty_lung"


@pytest.fixture(scope="module")
def studies(tmp_path_factory, repository):
    """Three chests of four slices each."""
    folder = tmp_path_factory.mktemp("studies")
    for case in CASES:
        image = sitk.ReadImage(str(repository / "bundles/lung/sample/images" / f"{case}.nii.gz"))
        sitk.WriteImage(image[:, :, 3:19:4], str(folder / f"{case}.nii.gz"))
    return folder


@pytest.fixture(scope="module")
def server(serve, studies, tmp_path_factory):
    with serve(studies, tmp_path_factory.mktemp("server") / "work") as server:
        yield server


def voxels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def assert_same(path, expected):
    """The same voxels on the same grid."""
    mask, reference = sitk.ReadImage(str(path)), sitk.ReadImage(str(expected))
    assert mask.GetPixelID() == reference.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(mask), sitk.GetArrayViewFromImage(reference))
    for geometry in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(mask, geometry)() == getattr(reference, geometry)()


def test_names_values_and_colours_of_the_labels_arrive_in_the_client(server):
    info = server.client.info()
    labels = find_bundle("lung").labels
    assert sorted(info["labels"]) == ["left lung", "right lung"]
    assert info["models"]["lung"]["labels"] == {"right lung": 1, "left lung": 2}
    assert info["models"]["lung"]["label_colors"] == {label["name"]: label["colour"] for label in labels}
    assert info["models"]["lung"]["dimension"] == 3
    assert info["models"]["lung"]["config"]["model_filename"] == ["model.pt", "shipped.pt"]
    assert list(info["trainers"]) == ["lung"]
    assert KEY in info["strategies"]
    assert list(info["scoring"]) == [KEY]
    assert info["datastore"]["total"] == len(CASES)


def test_a_segmentation_for_slicer_carries_name_and_colour(server, studies):
    path, told = server.client.infer("lung", CASES[0], {"result_extension": ".seg.nrrd", "device": "cpu"})
    mask = sitk.ReadImage(path)
    assert told["label_names"] == {"right lung": 1, "left lung": 2}
    for index, label in enumerate(find_bundle("lung").labels):
        assert mask.GetMetaData(f"Segment{index}_Name") == label["name"]
        colour = [round(255 * float(part)) for part in mask.GetMetaData(f"Segment{index}_Color").split()]
        assert colour == told["label_colors"][label["name"]] == label["colour"]


@pytest.mark.parametrize("kind", [sitk.sitkUInt16, sitk.sitkUInt32, sitk.sitkUInt64])
def test_unsigned_integers_are_segmented_and_their_values_doubted(server, studies, tmp_path, kind):
    image = sitk.ReadImage(str(studies / f"{CASES[0]}.nii.gz"))[:, :, :1]
    for name, of_kind in {"unsigned": kind, "signed": sitk.sitkInt32}.items():
        sitk.WriteImage(sitk.Cast(image + 1024, of_kind), str(tmp_path / f"{name}.nrrd"))
    params = {"result_extension": ".nrrd", "device": "cpu"}
    found = [server.client.infer("lung", "", params, file=str(tmp_path / f"{n}.nrrd")) for n in ("unsigned", "signed")]
    np.testing.assert_array_equal(*(voxels(path) for path, _ in found))
    assert all("they are probably HU + 1024" in " ".join(told["warnings"]) for _, told in found)


def test_images_with_something_lost_are_refused_in_a_sentence(server, tmp_path):
    for name, words in write_troubled(tmp_path).items():
        if (tmp_path / name).is_dir():  # the client sends single files
            continue
        with pytest.raises(MONAILabelClientException) as caught:
            server.client.infer("lung", "", {"device": "cpu"}, file=str(tmp_path / name))
        assert "Status: 400" in caught.value.msg
        assert words in caught.value.msg


def test_what_slicer_asks_for_is_a_mask_on_the_grid_of_the_image(server, studies):
    path, _ = server.client.infer("lung", CASES[0], {"result_extension": ".nrrd", "result_dtype": "uint8"})
    assert same_grid(sitk.ReadImage(path), sitk.ReadImage(str(studies / f"{CASES[0]}.nii.gz")))
    assert set(np.unique(voxels(path))) == {0, 1, 2}


@pytest.mark.parametrize(
    ("image", "params", "sentence"),
    [
        ("ISIC_0000014.jpg", {}, "takes one value per voxel"),
        (None, {"result_extension": ".jpg"}, "expected one of"),
        (None, {"model_filename": "../model.pt"}, "choose one of: model.pt, shipped.pt"),
    ],
)
def test_the_client_is_told_what_was_wrong(server, repository, image, params, sentence):
    file = image and str(repository / "bundles/skin/sample/images" / image)
    with pytest.raises(MONAILabelClientException) as caught:
        server.client.infer("lung", "" if file else CASES[0], params, file=file)
    assert sentence in caught.value.msg


def test_an_image_that_is_not_there_is_said_to_be_missing(server):
    with pytest.raises(MONAILabelClientException) as caught:
        server.client.infer("lung", "LCTSC_999", {})
    assert "there is no such image in the datastore" in caught.value.msg


def test_nothing_to_train_on_is_an_error(server):
    told = server.train("lung", max_epochs=1)
    assert told.startswith("ERROR")
    assert "no image has a final label to train on" in told


def test_a_labelling_session(server, studies, segment, tmp_path):
    client, weights = server.client, server.work / "model" / "lung" / "models"
    shipped = sha256(find_bundle("lung").weights)

    # The least certain image first; what was given out is not given out again at once.
    scores = server.score(KEY)["scores"]
    assert sorted(scores) == list(CASES)
    assert all(0 < score < 1 for score in scores.values())
    order = sorted(CASES, key=scores.__getitem__, reverse=True)
    chosen = client.next_sample(KEY, {})
    assert (chosen["id"], chosen["uncertainty"]) == (order[0], scores[order[0]])
    assert client.next_sample(KEY, {})["id"] == order[1]
    assert server.score(KEY)["executed"] == 0, "scored again without need"

    # Inference is the command line's.
    segment(studies / f"{order[0]}.nii.gz", tmp_path / "expected.nii.gz", "--bundle", "lung")
    before, told = client.infer("lung", order[0], {"device": "cpu"})
    assert_same(before, tmp_path / "expected.nii.gz")
    assert told["voxels"] == np.count_nonzero(voxels(before)) > 1000

    # An edited label is kept as it was sent: here each lung is drawn four pixels wider.
    right, left = (sitk.BinaryDilate(sitk.ReadImage(before) == value, (4, 4, 0)) for value in (1, 2))
    edited = right + 2 * (left & sitk.BinaryNot(right, 1, 0))
    sitk.WriteImage(edited, str(tmp_path / "edited.nii.gz"))
    label_info = [{"name": "right lung", "idx": 1}, {"name": "left lung", "idx": 2}]
    client.save_label(order[0], str(tmp_path / "edited.nii.gz"), params={"label_info": label_info, "model": "lung"})
    assert_same(client.download_label(order[0], "final"), tmp_path / "edited.nii.gz")
    assert client.next_sample(KEY, {})["id"] in order[1:]

    # Two epochs of training change what the server finds, in the direction of the label.
    told = server.train("lung", max_epochs=2, batch_size=1)
    assert told.startswith("DONE"), told
    assert sha256(weights / "model.pt") != shipped
    assert (
        sha256(weights / "previous.pt")
        == sha256(weights / "shipped.pt")
        == sha256(find_bundle("lung").weights)
        == shipped
    )
    stats = client.info()["train_stats"]["lung"]
    assert (stats["epochs"], stats["training_slices"], stats["lr"]) == (2, 4, 0.0002)
    assert stats["total_time"].startswith("0:0")
    after, _ = client.infer("lung", order[0], {})
    truth = voxels(tmp_path / "edited.nii.gz")
    assert np.count_nonzero(voxels(after) != truth) < np.count_nonzero(voxels(before) != truth)
    assert stats["best_metric"] == pytest.approx(
        confusion(voxels(after) > 0, truth > 0).dice, abs=0.005
    )  # Slicer shows it
    segment(
        studies / f"{order[0]}.nii.gz", tmp_path / "tuned.nii.gz", "--bundle", "lung", "--weights", weights / "model.pt"
    )
    assert_same(after, tmp_path / "tuned.nii.gz")
    again, _ = client.infer("lung", order[0], {"model_filename": "shipped.pt"})
    assert_same(again, before)

    # With other weights there are other scores, of what is not labelled yet.
    rescored = server.score(KEY)["scores"]
    assert sorted(rescored) == sorted(order[1:])
    notes = json.loads((studies / "datastore_v2.json").read_text())["objects"]
    for case, score in rescored.items():
        assert notes[case]["image"]["info"][KEY] == score != scores[case]


def test_a_stopped_training_changes_no_weights(server, studies):
    client, weights = server.client, server.work / "model" / "lung" / "models" / "model.pt"
    mask, _ = client.infer("lung", CASES[0], {})
    client.save_label(CASES[0], mask, params={"model": "lung"})
    before, stats = sha256(weights), client.info()["train_stats"]
    client.train_start("lung", {"device": "cpu", "max_epochs": 1000})
    server.until(lambda: (weights.parents[1] / "eval" / "running" / "model.pt").is_file())
    client.train_stop()
    server.until(lambda: client.train_status()["status"] not in ("SUBMITTED", "RUNNING"))
    assert (sha256(weights), client.info()["train_stats"]) == (before, stats)
    told = server.train("lung", max_epochs=1)
    assert told.startswith("DONE"), told
