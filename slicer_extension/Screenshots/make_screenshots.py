"""Photograph the panel in five states, with Slicer's data model and the real worker, but without Slicer's application.

    python slicer_extension/Screenshots/make_screenshots.py

The widgets of MRML and CTK are imitated (see Testing/standins), so that in Slicer they look somewhat different.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCREENSHOTS = Path(__file__).resolve().parent
EXTENSION = SCREENSHOTS.parent
SAMPLE = EXTENSION.parent / "bundles" / "lung" / "sample" / "images" / "LCTSC_008.nii.gz"
sys.path.insert(0, str(EXTENSION / "Testing"))


def main() -> None:
    """Make all pictures."""
    import standins
    from standins.application import load_module

    app = standins.install()
    module = load_module(EXTENSION / "R2UNet" / "R2UNet.py")
    import qt
    import slicer

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    panel = module.R2UNetWidget(parent)
    panel.setup()
    panel.ui.advancedCollapsibleButton.collapsed = True
    parent.show()
    panel.enter()
    wait(app, lambda: panel.logic.devices)

    volume = slicer.util.loadVolume(str(SAMPLE), {"name": "Chest CT"})
    panel.parameters.inputVolume = volume
    panel.parameters.bundle = "lung"
    take(app, parent, "idle")

    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.segmentButton.click()
    wait(app, lambda: panel.ui.progressBar.value > 6)
    take(app, parent, "running")
    wait(app, lambda: not panel.logic.busy)
    take(app, parent, "done")

    panel.ui.advancedCollapsibleButton.collapsed = True
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Planning")
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    other.SetAndObserveTransformNodeID(moved.GetID())
    panel.parameters.outputSegmentation = other
    panel.ui.segmentButton.click()
    take(app, parent, "error")

    panel.ui.trainCollapsibleButton.collapsed = False
    panel.parameters.outputSegmentation = None
    with tempfile.TemporaryDirectory() as folder:
        train(app, panel, folder)
        take(app, parent, "training")
        panel.logic.cancelTraining()
        wait(app, lambda: panel.logic.training is None)
    panel.cleanup()


def train(app: Any, panel: Any, folder: str) -> None:
    """Train on drawn parts of three small volumes until there is a curve."""
    import numpy as np
    import slicer

    slicer.mrmlScene.Clear(0)
    for number in (1, 2, 3):
        masks = np.zeros((2, 4, 32, 40), np.uint8)
        masks[0, :, 4 : 16 + number, 2:16] = 1
        masks[1, :, 10 - number : 28, 20:36] = 1
        values = np.select(list(masks > 0), [100, 400], -1000).astype(np.int16)
        volume = slicer.util.addVolumeFromArray(
            values, ijkToRAS=np.diag([-2.0, -2.0, 3.0, 1.0]), name=f"Phantom {number}"
        )
        drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"Drawn {number}")
        drawn.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for name, mask in zip(("liver", "spleen"), masks, strict=True):
            segment_id = drawn.GetSegmentation().AddEmptySegment("", name)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, drawn, segment_id, volume)
    panel.trainSection.refresh()
    panel.ui.trainNameLineEdit.setText("phantoms")
    panel.ui.trainDestPathLineEdit.currentPath = folder
    panel.ui.trainEpochsSpinBox.setValue(16)
    panel.ui.trainButton.click()
    wait(app, lambda: panel.logic.training is None or len(panel.logic.training.epochs) > 9)


def wait(app: Any, condition: Callable[[], Any], seconds: float = 300) -> None:
    """Let Qt work until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the panel did not get there")
        app.processEvents()
        time.sleep(0.01)


def take(app: Any, widget: Any, name: str) -> None:
    """Photograph the panel, as high as it needs to be."""
    for _ in range(3):  # layouts settle one after the other
        app.processEvents()
        widget.setMinimumSize(440, widget.layout().heightForWidth(440) if widget.layout().hasHeightForWidth() else 0)
        widget.resize(440, widget.layout().totalSizeHint().height())
    app.processEvents()
    if not widget.grab().save(str(SCREENSHOTS / f"{name}.png")):
        raise OSError(f"{name}.png could not be written")


if __name__ == "__main__":
    main()
