"""A bundle trained on segmentations of the scene: real nodes, the module's own panel, the real training process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

NAMES = ("left part", "right, part")
COLOURS = ((0.8, 0.2, 0.0), (0.0, 0.4, 1.0))
LUNG = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~^^~~^^~^^"
)


def drawn(seed):
    """A volume of two bright parts in air, and the mask of each: (K, J, I)."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 4, 32, 40), bool)
    masks[0, :, 4 : 18 + seed, 2:16] = True
    masks[1, :, 10 - seed : 28, 20:36] = True
    values = np.select(list(masks), [100, 400], -1000) + rng.normal(0, 10, masks.shape[1:])
    return values.astype(np.int16), masks


def add_volume(seed, name):
    import slicer

    matrix = np.diag([-2.0, -2.0, 3.0, 1.0])
    return slicer.util.addVolumeFromArray(drawn(seed)[0], ijkToRAS=matrix, name=name)


def draw(volume, seed, overlap=0):
    """A segmentation with both parts, the second of which may reach into the first."""
    import slicer

    masks = drawn(seed)[1]
    if overlap:
        masks[1, 0, 4, 2 : 2 + overlap] = True
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} drawn")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, colour, mask in zip(NAMES, COLOURS, masks, strict=True):
        segment_id = node.GetSegmentation().AddEmptySegment("", name, colour)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment_id, volume)
        node.GetSegmentation().GetSegment(segment_id).SetTag("TerminologyEntry", LUNG)
    return node


@pytest.fixture
def ready(panel, tmp_path):
    """Three volumes with segmentations, and a panel in which a training only has to be started."""
    import slicer

    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)  # which every scene of Slicer has
    for seed in range(3):
        draw(add_volume(seed, f"Smith {seed}"), seed)
    panel.ui.trainRefreshButton.click()
    panel.ui.trainNameLineEdit.setText("parts")
    panel.ui.trainDestPathLineEdit.currentPath = str(tmp_path)
    panel.ui.trainEpochsSpinBox.setValue(20)
    yield panel
    panel.logic.cancelTraining()


def start(panel, wait):
    panel.ui.trainButton.click()
    assert panel.ui.trainButton.text == "Cancel", panel.ui.trainStatusLabel.text
    wait(lambda: panel.logic.training is None or panel.logic.training.epochs, 240)
    assert panel.logic.training is not None, panel.ui.trainStatusLabel.text


def test_three_drawn_segmentations_train_a_bundle_that_segments_a_fourth_volume(ready, wait, tmp_path, mask_of):
    import slicer
    import vtk

    panel, ui = ready, ready.ui
    assert ui.trainCasesListWidget.count == 3
    assert ui.trainSceneLabelsLabel.text == "Labels: left part, right, part"
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    ui.trainButton.click()
    seen = set()
    wait(lambda: seen.add(ui.trainStatusLabel.text.split(" ")[0]) or panel.logic.training is None, 240)
    assert ui.trainStatusLabel.text.startswith("Done: validation Dice 0.9"), ui.trainStatusLabel.text
    assert {"Starting", "Checking", "Epoch"} <= seen
    assert not ui.trainCurveLabel.pixmap.isNull()
    assert "labels: left part (" in ui.trainPlanLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes

    trained = str(tmp_path / "parts" / "eval")
    wait(lambda: panel.parameters.bundle == trained)
    labels = json.loads(Path(trained, "configs", "metadata.json").read_text())["labels"]
    assert [label["name"] for label in labels] == list(NAMES)
    assert [label["colour"] for label in labels] == [[204, 51, 0], [0, 102, 255]]
    assert labels[0]["terminology"]["type"] == {"scheme": "SCT", "value": "39607008", "meaning": "Lung"}
    assert "Smith" not in "".join(path.read_text() for path in tmp_path.rglob("*.json"))

    fourth = add_volume(4, "Fourth")
    panel.parameters.inputVolume = fourth
    ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    result = panel.parameters.result
    for index, (name, truth) in enumerate(zip(NAMES, drawn(4)[1], strict=True)):
        segment = result.GetSegmentation().GetNthSegment(index)
        assert segment.GetName() == name
        assert [round(255 * part) for part in segment.GetColor()] == labels[index]["colour"]
        entry = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", entry)
        assert "SCT^39607008^Lung" in str(entry)
        mask = mask_of(result, fourth, index)
        assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.9
        assert ui.resultTable.item(index, 0).text() == name
    panel.logic.removeBundle(trained)


def test_cancel_leaves_nothing(ready, wait, tmp_path):
    import slicer

    panel, nodes = ready, slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.trainEpochsSpinBox.setValue(10000)
    start(panel, wait)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "parts_data"]
    assert "to go" in panel.ui.trainStatusLabel.text or len(panel.logic.training.epochs) == 1
    child = panel.logic.trainingRunner._process._process.processId()
    panel.ui.trainButton.click()
    wait(lambda: panel.logic.training is None)
    assert panel.ui.trainStatusLabel.text == "Cancelled: everything that the training created was removed."
    assert panel.ui.trainButton.text == "Train"
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{child}").exists() or "zombie" in Path(f"/proc/{child}/status").read_text()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_a_training_that_is_killed_says_so_and_leaves_nothing(ready, wait, tmp_path):
    start(ready, wait)
    os.kill(ready.logic.trainingRunner._process._process.processId(), signal.SIGKILL)
    wait(lambda: ready.logic.training is None)
    assert ready.ui.trainStatusLabel.text == "The program that trains has ended unexpectedly: see the log."
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_masks_that_cannot_be_learned_from(panel, wait, tmp_path):
    from PIL import Image

    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "data" / part / "a.png")
    ui = panel.ui
    ui.trainFolderRadioButton.setChecked(True)
    ui.trainSourcePathLineEdit.currentPath = str(tmp_path / "data")
    ui.trainDestPathLineEdit.currentPath = str(tmp_path)
    ui.trainNameLineEdit.setText("mine")
    ui.trainButton.click()
    wait(lambda: panel.logic.training is None)
    assert ui.trainStatusLabel.text.startswith("all 1 masks are empty")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # which is the user's
    ui.trainSceneRadioButton.setChecked(True)


def test_masks_are_those_of_the_volumes_grid_whatever_grid_they_were_drawn_on(app, tmp_path):
    import slicer
    from R2UNetLib.training_data import cases_of_scene, write_data_set

    slicer.mrmlScene.Clear(0)
    volume = add_volume(1, "Chest")
    turned = slicer.util.addVolumeFromArray(
        np.zeros((32, 12, 80), np.int16),
        ijkToRAS=np.array([[-1.0, 0, 0, 0], [0, 0, -2, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
    )
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    truth = drawn(1)[1]
    segment_id = node.GetSegmentation().AddEmptySegment("", "part")
    fine = np.repeat(np.repeat(truth[0], 3, 0), 2, 2).transpose(1, 0, 2)  # twice and three times as fine
    slicer.util.updateSegmentBinaryLabelmapFromArray(fine.astype(np.uint8), node, segment_id, turned)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)  # which every scene of Slicer has
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    write_data_set(cases_of_scene(), tmp_path / "data", "CT")
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    mask = slicer.util.loadVolume(str(tmp_path / "data" / "masks" / "case_001.nrrd"))
    written = slicer.util.arrayFromVolume(mask)
    assert written.shape == truth[0].shape
    assert (written != truth[0]).mean() < 0.05
    np.testing.assert_array_equal(
        slicer.util.arrayFromVTKMatrix(ijk_to_ras(mask)), slicer.util.arrayFromVTKMatrix(ijk_to_ras(volume))
    )
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["modality"] == {"0": "CT"}


def ijk_to_ras(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_what_prevents_a_training_is_one_sentence(panel, tmp_path):
    import slicer

    def sentence():
        panel.ui.trainButton.click()
        assert panel.logic.training is None
        assert list(tmp_path.iterdir()) == []
        return panel.ui.trainStatusLabel.text

    ui = panel.ui
    ui.trainNameLineEdit.setText("mine")
    ui.trainDestPathLineEdit.currentPath = ""
    assert sentence() == "Choose the folder in which the bundle is to be created."
    ui.trainDestPathLineEdit.currentPath = str(tmp_path)
    assert sentence() == "Choose at least one volume with a segmentation that was drawn on it."
    volume = add_volume(0, "Chest")
    node = draw(volume, 0, overlap=3)
    ui.trainRefreshButton.click()
    assert sentence() == (
        "In 'Chest drawn', right, part and left part overlap in 3 voxels, but the labels of a bundle do not overlap: "
        "give each voxel to one of them."
    )
    ui.trainNameLineEdit.setText("../mine")
    assert "Give the bundle a name of letters" in sentence()
    ui.trainNameLineEdit.setText("mine")
    other = draw(volume, 0)
    ui.trainRefreshButton.click()
    assert "'Chest' is chosen with two segmentations" in sentence()
    slicer.mrmlScene.RemoveNode(other)
    node.GetSegmentation().GetNthSegment(0).SetName(NAMES[1])
    assert "two segments of the same name" in sentence()
