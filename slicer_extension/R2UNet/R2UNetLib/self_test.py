"""The self test run by Slicer's developer tools."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .logic import R2UNetLogic
from .problem import Problem

SIZE = 64


class R2UNetTest(ScriptedLoadableModuleTest):
    """Segments a synthetic volume with the first usable bundle; R2U-Net must be installed."""

    def setUp(self) -> None:
        """Start with an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self) -> None:
        """Run everything."""
        self.setUp()
        self.test_a_volume_without_voxels_is_refused()
        self.setUp()
        self.test_segmentation_has_the_geometry_of_its_volume()

    def test_a_volume_without_voxels_is_refused(self) -> None:
        """A message, and no change."""
        logic = R2UNetLogic()
        hollow = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
        with self.assertRaisesRegex(Problem, "Hollow"):
            logic.process(hollow, "lung", waitForCompletion=True)
        logic.close()

    def test_segmentation_has_the_geometry_of_its_volume(self) -> None:
        """Air in water: whatever a network finds, it must lie on the volume's grid."""
        array = np.zeros((4, SIZE, SIZE), np.int16)
        array[:, 16:48, 8:28] = array[:, 16:48, 36:56] = -850
        matrix = np.diag([-5.0, -5.0, 8.0, 1.0])
        volume = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name="Phantom")
        logic = R2UNetLogic()
        result = logic.process(volume, "lung", device="cpu", waitForCompletion=True)
        logic.close()
        segment_id = result.GetSegmentation().GetNthSegmentID(0)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(result, segment_id, volume)
        self.assertEqual(mask.shape, array.shape)
