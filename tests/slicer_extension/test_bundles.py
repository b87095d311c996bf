"""Bundles that the user adds: remembered, listed beside the shipped ones, with all their labels."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.labelled_bundles import LABELS


@pytest.fixture(autouse=True)
def _forget_afterwards(opened):
    yield
    for name in [bundle["name"] for bundle in opened.logic.bundles if "unsafe" in bundle]:
        opened.logic.removeBundle(name)


@pytest.fixture
def add(panel, wait):
    """Add a bundle as the button's menu does; returns what the panel says."""

    def add_bundle(path):
        panel.ui.statusLabel.setText("")
        panel.bundleMenu.add(Path(path))
        wait(lambda: panel.ui.statusLabel.text and not panel.ui.statusLabel.text.startswith("Looking at"))
        return panel.ui.statusLabel.text

    return add_bundle


def names(panel):
    box = panel.ui.bundleComboBox
    return [box.itemData(index) for index in range(box.count)]


def titles(panel):
    box = panel.ui.bundleComboBox
    return [box.itemText(index) for index in range(box.count)]


def test_the_menu_asks_for_a_folder_or_a_zip_file(panel, workbench, wait, monkeypatch):
    import qt

    folder = str(workbench / "own" / "safe")
    actions = panel.bundleMenu.menu.actions()
    assert [action.text for action in actions] == ["Add a folder ...", "Add a zip file ...", "Remove from the list"]
    assert not actions[2].enabled
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: "")
    actions[0].trigger()
    assert panel.ui.statusLabel.text == "Choose the volume to segment."
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: folder)
    actions[0].trigger()
    wait(lambda: folder in names(panel))
    assert panel.parameters.bundle == folder
    assert panel.ui.statusLabel.text.startswith("Added: ")
    assert actions[2].enabled
    actions[2].trigger()
    assert folder not in names(panel)
    assert panel.parameters.bundle in names(panel)
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: str(workbench / "none.zip"))
    actions[1].trigger()
    wait(lambda: "is not a bundle" in panel.ui.statusLabel.text)


def test_a_safe_bundle_is_added_remembered_and_used(panel, workbench, add, open_panel, wait, load, mask_of, app):
    folder = str(workbench / "own" / "safe")
    assert add(folder).startswith("Added: ")
    assert app.questions == []
    assert (
        titles(panel)[names(panel).index(folder)] == f"Lungs in CT (R2U-Net) ({folder})"
    )  # a shipped one has the title
    ct = load("axial")
    panel.parameters.inputVolume = ct.node
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    np.testing.assert_array_equal(mask_of(panel.parameters.result, ct.node), ct.expected)

    other = open_panel()  # as after a restart
    wait(lambda: folder in names(other))
    panel.logic.removeBundle(folder)
    other.cleanup()
    other.parent.close()
    third = open_panel()
    wait(lambda: third.logic.devices)
    assert folder not in names(third)
    third.cleanup()
    third.parent.close()
    assert Path(folder, "configs").is_dir()


def test_several_labels_are_segments_with_the_names_colours_and_terminology_of_the_metadata(
    panel, workbench, add, wait, load, app
):
    import slicer
    import vtk

    app.answer = True
    assert add(workbench / "own" / "parts") == "Added: Two parts."
    assert "can execute any code" in app.questions[0]
    assert app.questions[0].endswith("Do you trust its author?")
    ct = load("parts")
    ct.node.SetName("Chest")
    panel.parameters.inputVolume = ct.node
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    segmentation = panel.parameters.result.GetSegmentation()
    assert panel.parameters.result.GetName() == "Chest left, right part"
    assert segmentation.GetNumberOfSegments() == len(LABELS)
    for row, label in enumerate(LABELS):
        segment_id = segmentation.GetNthSegmentID(row)
        segment = segmentation.GetSegment(segment_id)
        assert segment.GetName() == label["name"]
        assert [round(255 * part) for part in segment.GetColor()] == label["colour"]
        entry = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", entry)
        codes = ["^".join(label["terminology"][kind].values()) for kind in ("category", "type")]
        assert str(entry).split("~")[1:3] == codes
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(panel.parameters.result, segment_id, ct.node)
        np.testing.assert_array_equal(mask, ct.expected == label["value"])
        voxels = int((ct.expected == label["value"]).sum())
        cells = [panel.ui.resultTable.item(row, column).text() for column in range(3)]
        assert cells == [label["name"], str(voxels), f"{voxels * 12 / 1000:.1f}"]
        hu = slicer.util.arrayFromVolume(ct.node)[ct.expected == label["value"]]
        assert panel.ui.resultTable.item(row, 3).text() == f"{hu.mean():.1f}"
    together = [panel.ui.resultTable.item(len(LABELS), column).text() for column in range(4)]
    voxels, mean = int((ct.expected > 0).sum()), slicer.util.arrayFromVolume(ct.node)[ct.expected > 0].mean()
    assert together == ["Together", str(voxels), f"{voxels * 12 / 1000:.1f}", f"{mean:.1f}"]
    panel.parameters.outputSegmentation = panel.parameters.result
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert "left, right part from this module" in app.questions[-1]
    assert segmentation.GetNumberOfSegments() == len(LABELS)


def test_a_bundle_that_is_not_trusted_is_not_added(panel, workbench, add, app):
    app.answer = False
    before = names(panel)
    sentence = add(workbench / "own" / "parts")
    assert (
        "can execute any code on this computer (it has the class 'tests.helpers.labelled_bundles.ByValue'" in sentence
    )
    assert names(panel) == before


def test_a_folder_that_is_no_bundle_is_one_sentence(panel, workbench, add, tmp_path):
    before = names(panel)
    assert add(tmp_path) == f"{tmp_path} is not a bundle, expected a folder with configs/inference.json: check the path"
    assert "comes with R2U-Net" in add(workbench / "bundles" / "lung")
    assert names(panel) == before
    shutil.copytree(workbench / "bundles" / "empty", tmp_path / "planned")
    assert add(tmp_path / "planned").startswith("Added: ")
    assert not panel.ui.segmentButton.enabled


def test_a_zip_file_is_unpacked_beside_itself(panel, workbench, add, tmp_path, app):
    archive = shutil.make_archive(str(tmp_path / "mine"), "zip", workbench / "own", "parts")
    assert add(archive) == "Added: Two parts."
    assert panel.parameters.bundle == str(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.zip"]
    assert (tmp_path / "mine" / "configs" / "inference.json").is_file()
    assert "exists already" in add(archive)


def test_nothing_is_left_of_a_zip_file_whose_bundle_is_not_added(panel, workbench, add, tmp_path, app):
    app.answer = False
    archive = shutil.make_archive(str(tmp_path / "mine"), "zip", workbench / "own" / "parts")
    assert "can execute any code" in add(archive)
    metadata = json.loads((workbench / "own" / "parts" / "configs" / "metadata.json").read_text())
    with zipfile.ZipFile(tmp_path / "damaged.zip", "w") as zipped:
        zipped.writestr("b/configs/inference.json", "{}")
        zipped.writestr("b/configs/metadata.json", json.dumps({**metadata, "labels": []}))
    assert "lacks a usable entry labels" in add(tmp_path / "damaged.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.zip", "mine.zip"]


def link(name):
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (["../out"], "holds '../out', which would be written outside its folder"),
        (["b/../../out"], "would be written outside its folder"),
        (["/tmp/out"], "would be written outside its folder"),
        (["C:\\out"], "would be written outside its folder"),
        (["..\\out"], "would be written outside its folder"),
        ([link("b/link")], "would be written outside its folder"),
        ([], "holds 0 bundles, expected one"),
        (["a/configs/inference.json", "b/configs/inference.json"], "holds 2 bundles, expected one"),
    ],
)
def test_a_hostile_zip_file_writes_nothing(panel, add, tmp_path, members, words):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "bad.zip", "w") as zipped:
        zipped.writestr("readme", "x")
        for member in members:
            zipped.writestr(member, "x")
    assert words in add(tmp_path / "in" / "bad.zip")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "bad.zip"]


def test_a_zip_file_that_is_none_or_would_fill_the_disk(panel, add, tmp_path, monkeypatch):
    from R2UNetLib import archives

    (tmp_path / "text.zip").write_text("no zip file")
    assert "is not a zip file, or is damaged" in add(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("configs/inference.json", "{}")
        zipped.writestr("zeros", bytes(10**6))
    monkeypatch.setattr(archives, "MOST_BYTES", 10**5)
    assert "which no bundle needs" in add(tmp_path / "bomb.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.zip", "text.zip"]


def test_a_remembered_bundle_that_is_gone_is_said_in_the_log_and_comes_back(panel, workbench, add, open_panel, wait):
    folder = workbench / "own" / "safe"
    add(folder)
    folder.rename(folder.with_name("away"))
    other = open_panel()
    wait(lambda: "is not a bundle" in other.ui.logTextEdit.plainText)
    assert str(folder) not in names(other)
    folder.with_name("away").rename(folder)
    other.onSetUpChanged()
    wait(lambda: str(folder) in names(other))
    other.cleanup()
    other.parent.close()


def test_a_worker_that_dies_meanwhile_leaves_no_question_open(panel, add, workbench, wait):
    archive = shutil.make_archive(str(workbench / "dying"), "zip", workbench / "own" / "safe")
    panel.bundleMenu.add(Path(archive))
    panel.logic.runner.client.kill()
    wait(lambda: not panel.logic.runner.client.running)
    wait(lambda: not panel.logic.runner.catalogue._questions)
    assert not (workbench / "dying").exists() or "Added" in panel.ui.statusLabel.text
    Path(archive).unlink()
    panel.startWorker()
    wait(lambda: panel.logic.devices)
