"""What can go wrong: a sentence for the user each time, nothing changed, and the panel works on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest


def tall(volume, times=200):
    """Make a volume so tall that segmenting it takes many seconds."""
    import slicer

    slicer.util.updateVolumeFromArray(volume, np.tile(slicer.util.arrayFromVolume(volume), (times, 1, 1)))
    return volume


def start(panel, wait, volume):
    """Press Segment and wait until some slices are done."""
    panel.parameters.inputVolume = volume
    panel.ui.segmentButton.click()
    wait(lambda: panel.ui.progressBar.maximum > 1 and panel.ui.progressBar.value > 0)


def nodes():
    import slicer

    scene = slicer.mrmlScene
    return [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]


def works(panel, wait, load, mask_of):
    """Whether the panel segments."""
    ct = load("axial")
    panel.parameters.inputVolume = ct.node
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    np.testing.assert_array_equal(mask_of(panel.parameters.result, ct.node), ct.expected)


def alive(pid):
    return Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text()


def worker_pid(panel):
    return panel.logic.runner.client._process._process.processId()


def test_cancel_leaves_the_scene_as_it_was(panel, wait, load, mask_of):
    volume = tall(load("axial").node)
    panel.parameters.inputVolume = volume
    before, pid = nodes(), worker_pid(panel)
    start(panel, wait, volume)
    panel.ui.segmentButton.click()
    assert panel.ui.statusLabel.text == "Cancelling ..."
    assert not panel.ui.segmentButton.enabled
    wait(lambda: not panel.logic.busy)
    assert panel.ui.statusLabel.text == "Cancelled: nothing was changed."
    assert nodes() == before
    assert worker_pid(panel) == pid  # it has answered, and stays
    works(panel, wait, load, mask_of)


def test_a_worker_that_does_not_answer_to_a_cancel_is_ended(panel, wait, load, mask_of, monkeypatch):
    from R2UNetLib import runner

    monkeypatch.setattr(runner, "PATIENCE", 300)
    start(panel, wait, tall(load("axial").node))
    pid = worker_pid(panel)
    os.kill(pid, signal.SIGSTOP)
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert panel.ui.statusLabel.text == "Cancelled: nothing was changed."
    assert not alive(pid)
    works(panel, wait, load, mask_of)


def test_a_worker_that_is_killed(panel, wait, load, mask_of):
    start(panel, wait, tall(load("axial").node))
    before = nodes()
    os.kill(worker_pid(panel), signal.SIGKILL)
    wait(lambda: not panel.logic.busy)
    assert panel.ui.statusLabel.text == ("The program that segments has ended unexpectedly: press the button again.")
    assert nodes() == before
    works(panel, wait, load, mask_of)


def test_the_scene_is_closed_meanwhile(panel, wait, load, mask_of):
    import slicer

    start(panel, wait, tall(load("axial").node))
    slicer.mrmlScene.Clear(0)
    wait(lambda: not panel.logic.busy)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert panel.ui.statusLabel.text == "Choose the volume to segment."
    panel.parameters.bundle = "lung"
    works(panel, wait, load, mask_of)


def test_the_volume_is_removed_meanwhile(panel, wait, load, mask_of):
    import slicer

    volume = tall(load("axial").node, 40)
    start(panel, wait, volume)
    slicer.mrmlScene.RemoveNode(volume)
    wait(lambda: not panel.logic.busy)
    assert "removed while it was being segmented" in panel.ui.logTextEdit.plainText
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    works(panel, wait, load, mask_of)


def test_the_panel_is_closed_meanwhile(panel, wait, load, open_panel, app):
    """Reloading the module and quitting Slicer do this."""
    other = open_panel()
    wait(lambda: other.logic.bundles)
    start(other, wait, tall(load("axial").node))
    pid = worker_pid(other)
    other.cleanup()
    assert not alive(pid)
    assert not other.logic.busy
    other.parent.close()


def test_a_closed_panel_no_longer_listens_to_the_scene(panel, wait, load, open_panel):
    import slicer

    other = open_panel()
    other.cleanup()
    other.parent.deleteLater()
    load("axial")
    slicer.mrmlScene.Clear(0)  # an observer that was left would raise here
    assert other.parameters is None


def test_slicers_python_is_a_launcher_and_its_child_leaves_too(app, wait):
    """Ending the launcher does not end its child, but closes the child's input."""
    from R2UNetLib.processes import LineProcess
    from R2UNetLib.pythons import slicer_python

    lines, codes = [], []
    process = LineProcess(lines.append, lines.append, codes.append)
    program = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    process.start(slicer_python().program, ["-c", program])
    wait(lambda: lines)
    child = int(lines[0])
    assert alive(child)
    process.kill()
    wait(lambda: codes)
    assert codes == [None]
    wait(lambda: not alive(child), 10)


def test_nothing_is_chosen(panel):
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.statusLabel.text == panel.ui.segmentButton.toolTip == "Choose the volume to segment."


def test_a_volume_without_voxels(panel):
    import slicer

    panel.parameters.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.statusLabel.text == "The volume 'Hollow' holds no voxels: load its image again."


def test_a_bundle_without_weights(panel, load):
    panel.parameters.inputVolume = load("axial").node
    panel.parameters.bundle = "empty"
    assert not panel.ui.segmentButton.enabled
    assert "has no trained weights yet" in panel.ui.statusLabel.text
    panel.parameters.bundle = "lung"
    assert panel.ui.segmentButton.enabled
    assert panel.ui.statusLabel.text == "Ready."


def test_a_bundle_that_is_not_here(panel, load):
    panel.parameters.inputVolume = load("axial").node
    panel.parameters.bundle = "heart"
    assert panel.ui.statusLabel.text == "'heart' is not installed here: choose another entry under 'Find'."


def test_an_image_of_the_wrong_kind_is_named_as_the_user_knows_it(panel, wait, load):
    volume = load("picture").node
    volume.SetName("Holiday")
    panel.parameters.inputVolume = volume
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert panel.ui.statusLabel.text  # the worker's sentence
    assert "R2UNet-" not in panel.ui.statusLabel.text
    assert "font-weight: bold" in panel.ui.statusLabel.styleSheet


def test_a_disk_that_is_full_before_the_work_begins(panel, load, monkeypatch, app):
    from R2UNetLib.problem import Problem

    ct = load("axial")
    monkeypatch.setattr(app, "temporaryPath", "/proc")
    with pytest.raises(Problem, match="/proc, cannot be written to"):
        panel.logic.process(ct.node, "lung", waitForCompletion=True)
    assert not panel.logic.busy


def use_python(panel, wait, tmp_path, script):
    """Have the panel use another Python, which is a shell script."""
    from R2UNetLib.pythons import set_other_python

    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    set_other_python(str(path))
    panel.logic.runner.catalogue._shipped = []  # as in a Slicer in which none was ready yet
    panel.onSetUpChanged()
    wait(lambda: not panel.logic.runner.client.running)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (f'exec {sys.executable} -I -S "$@"', "The chosen Python lacks a package that R2U-Net needs"),
        ("exit 3", "The program that segments has failed: see the log."),
        ("""echo '@@{"event": "ready", "protocol": 99, "version": "9", "bundles": []}'; cat""", "update both"),
    ],
)
def test_a_python_that_does_not_serve(panel, wait, load, mask_of, workbench, tmp_path, script, sentence):
    from R2UNetLib.pythons import set_other_python

    panel.parameters.inputVolume = load("axial").node
    use_python(panel, wait, tmp_path, script)
    assert sentence in panel.ui.statusLabel.text
    assert not panel.ui.segmentButton.enabled
    set_other_python(str(workbench / "worker"))
    panel.onSetUpChanged()
    wait(lambda: panel.logic.bundles)
    works(panel, wait, load, mask_of)


def test_a_python_that_is_not_there(panel, wait, load, workbench, tmp_path):
    from R2UNetLib.problem import Problem
    from R2UNetLib.pythons import chosen_python, set_other_python

    set_other_python(str(tmp_path / "nowhere"))
    with pytest.raises(Problem, match=r"There is no Python at .*nowhere: choose another one"):
        chosen_python()
    set_other_python(str(workbench / "worker"))


def test_what_the_worker_warns_of_is_shown(panel, wait, load, workbench, app):
    import slicer

    ct = load("axial")
    slicer.util.updateVolumeFromArray(ct.node, slicer.util.arrayFromVolume(ct.node) + 2000)  # not Hounsfield units
    panel.parameters.inputVolume = ct.node
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert "Hounsfield" in panel.ui.statusLabel.text or "HU" in panel.ui.statusLabel.text


def test_a_fault_of_the_module_itself_leaves_it_usable(panel, wait, load, mask_of, monkeypatch):
    from R2UNetLib import runner

    panel.parameters.inputVolume = load("axial").node
    before = nodes()
    monkeypatch.setattr(runner, "read_result", lambda path: 1 / 0)
    panel.ui.segmentButton.click()
    wait(lambda: not panel.logic.busy)
    assert "because of a fault in this module" in panel.ui.statusLabel.text
    assert "ZeroDivisionError" in panel.ui.logTextEdit.plainText
    assert nodes() == before
    monkeypatch.undo()
    works(panel, wait, load, mask_of)
