"""Writing into segmentations that are there already, undo, and scenes that are saved."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def manual(load):
    """A volume, and a segmentation of it with two segments that somebody drew, in one layer."""
    import slicer
    from R2UNetLib.outputs import new_segmentation

    ct = load("axial")
    node = new_segmentation(ct.node, "manual")
    for number, name in enumerate(("tumour", "node")):
        node.GetSegmentation().AddEmptySegment(name, name)
        drawn = np.zeros_like(ct.expected)
        drawn[1:3, 10 + 20 * number : 25 + 20 * number, 5:40] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, name, ct.node)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    return ct, node


def voxels(node, volume):
    """ID -> voxels of each segment, and the order of the segments."""
    import slicer

    ids = list(node.GetSegmentation().GetSegmentIDs())
    return ids, {i: slicer.util.arrayFromSegmentBinaryLabelmap(node, i, volume).copy() for i in ids}


def assert_same(one, other):
    assert one[0] == other[0]
    for segment_id, array in one[1].items():
        np.testing.assert_array_equal(array, other[1][segment_id])


def segment_into(panel, wait, volume, node):
    panel.parameters.inputVolume = volume
    panel.parameters.outputSegmentation = node
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)


def test_a_segment_is_added_and_taken_back(panel, wait, manual, app):
    ct, node = manual
    before = voxels(node, ct.node)
    segment_into(panel, wait, ct.node, node)
    ids, after = voxels(node, ct.node)
    assert ids == ["tumour", "node", "lung_1"]
    np.testing.assert_array_equal(after["lung_1"], ct.expected)
    np.testing.assert_array_equal(after["tumour"], before[1]["tumour"])
    assert app.questions == []  # nothing of ours was there
    panel.ui.undoButton.click()
    assert_same(voxels(node, ct.node), before)
    assert not panel.ui.undoButton.enabled


def test_our_segment_is_replaced_after_a_question_and_put_back(panel, wait, manual, app):
    import slicer

    ct, node = manual
    segment_into(panel, wait, ct.node, node)
    edited = np.zeros_like(ct.expected)
    edited[0, :5, :5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, node, "lung_1", ct.node)
    node.GetSegmentation().GetSegment("lung_1").SetName("my lung")
    node.GetSegmentation().CollapseBinaryLabelmaps(False)  # as when a scene was saved and loaded
    before = voxels(node, ct.node)

    app.answer = False
    panel.ui.segmentButton.click()
    question = f"'{node.GetName()}' already has my lung from this module. Replace it? Other segments stay."
    assert app.questions == [question]
    assert not panel.logic.busy
    assert_same(voxels(node, ct.node), before)

    app.answer = True
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    ids, after = voxels(node, ct.node)
    assert ids == before[0]
    assert node.GetSegmentation().GetSegment("lung_1").GetName() == "my lung"
    np.testing.assert_array_equal(after["lung_1"], ct.expected)
    np.testing.assert_array_equal(after["tumour"], before[1]["tumour"])
    panel.ui.undoButton.click()
    assert_same(voxels(node, ct.node), before)


def test_a_manual_segment_that_has_our_id_is_not_ours(panel, wait, load, mask_of):
    import slicer
    from R2UNetLib.outputs import new_segmentation

    ct = load("axial")
    node = new_segmentation(ct.node, "manual")
    node.GetSegmentation().AddEmptySegment("lung_1", "lung")
    slicer.util.updateSegmentBinaryLabelmapFromArray(1 - ct.expected, node, "lung_1", ct.node)
    segment_into(panel, wait, ct.node, node)
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    np.testing.assert_array_equal(mask_of(node, ct.node, 0), 1 - ct.expected)
    np.testing.assert_array_equal(mask_of(node, ct.node, 1), ct.expected)


def test_some_slices_of_our_segment_are_replaced(panel, wait, manual):
    import slicer

    ct, node = manual
    segment_into(panel, wait, ct.node, node)
    edited = 1 - ct.expected
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, node, "lung_1", ct.node)
    panel.parameters.firstSlice, panel.parameters.lastSlice, panel.parameters.onlySlices = 2, 3, True
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    panel.parameters.onlySlices = False
    expected = edited.copy()
    expected[2:4] = ct.uncleaned[2:4]
    np.testing.assert_array_equal(voxels(node, ct.node)[1]["lung_1"], expected)


def test_surfaces_follow_the_new_voxels_and_go_back(panel, wait, manual):
    ct, node = manual
    node.CreateClosedSurfaceRepresentation()
    segment_into(panel, wait, ct.node, node)
    assert surface_points(node, "lung_1") > 0
    panel.ui.undoButton.click()
    assert node.GetSegmentation().GetSegment("lung_1") is None
    assert surface_points(node, "tumour") > 0


def surface_points(node, segment_id):
    surface = node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Closed surface")
    return surface.GetNumberOfPoints()


def test_a_segmentation_under_another_transform_is_refused(panel, manual):
    import slicer

    ct, node = manual
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    panel.parameters.inputVolume, panel.parameters.outputSegmentation = ct.node, node
    panel.ui.segmentButton.click()
    assert not panel.logic.busy
    assert "are under different transforms" in panel.ui.statusLabel.text


def test_a_segmentation_made_of_surfaces_is_refused(panel, manual):
    ct, node = manual
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    panel.parameters.inputVolume, panel.parameters.outputSegmentation = ct.node, node
    panel.ui.segmentButton.click()
    assert "is made of surfaces" in panel.ui.statusLabel.text


def test_the_segmentation_is_removed_meanwhile(panel, wait, manual):
    import slicer

    ct, node = manual
    panel.parameters.inputVolume, panel.parameters.outputSegmentation = ct.node, node
    panel.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(node)
    wait(lambda: not panel.logic.busy)
    assert panel.ui.statusLabel.text == "The segmentation was removed while its volume was being segmented."


def test_a_saved_scene_brings_everything_back(panel, wait, load, mask_of, tmp_path):
    import slicer

    ct = load("axial")
    name = ct.node.GetName()
    panel.parameters.inputVolume = ct.node
    panel.logic.preview(ct.node, "lung", 1, waitForCompletion=True)
    panel.parameters.firstSlice, panel.parameters.lastSlice, panel.parameters.onlySlices = 1, 3, True
    panel.parameters.device, panel.parameters.cpuFallback = "cuda:1", True
    panel.parameters.device = "cpu"
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert panel.parameters.result is not None, panel.ui.statusLabel.text
    mask = mask_of(panel.parameters.result, ct.node)
    sizes = [panel.ui.resultTable.item(0, column).text() for column in range(3)]
    scene = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(scene))

    slicer.mrmlScene.Clear(0)
    assert panel.parameters.result is None
    assert panel.ui.resultTable.rowCount == 0
    assert slicer.mrmlScene.ReadFromMRB(str(scene))
    p = panel.parameters
    assert (p.bundle, p.device, p.firstSlice, p.lastSlice, p.onlySlices, p.cpuFallback) == (
        "lung",
        "cpu",
        1,
        3,
        True,
        True,
    )
    assert p.inputVolume.GetName() == name
    assert panel.ui.inputSelector.currentNode() is p.inputVolume
    assert (panel.ui.firstSliceSpinBox.value, panel.ui.lastSliceSpinBox.value) == (1, 3)
    np.testing.assert_array_equal(mask_of(p.result, p.inputVolume), mask)
    assert [panel.ui.resultTable.item(0, column).text() for column in range(3)] == sizes
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1  # previews are not saved


def test_choices_in_the_panel_are_parameters_and_the_other_way_round(panel, load):
    ct = load("axial")
    panel.ui.inputSelector.setCurrentNode(ct.node)
    assert panel.parameters.inputVolume is ct.node
    panel.ui.bundleComboBox.setCurrentIndex(panel.ui.bundleComboBox.findData("eyes"))
    assert panel.parameters.bundle == "eyes"
    assert "Retinal" in panel.ui.bundleComboBox.currentText
    assert "CHASE_DB1" in panel.ui.bundleDescriptionLabel.text
    panel.parameters.bundle = "lung"
    assert "Lungs" in panel.ui.bundleComboBox.currentText
    panel.ui.deviceComboBox.setCurrentIndex(panel.ui.deviceComboBox.findData("cpu"))
    assert panel.parameters.device == "cpu"
