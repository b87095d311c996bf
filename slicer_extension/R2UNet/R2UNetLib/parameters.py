"""The panel's parameters, saved with the scene."""

from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLVectorVolumeNode
from slicer.parameterNodeWrapper import Minimum, parameterNodeWrapper


@parameterNodeWrapper
class R2UNetParameters:
    """The parameter node: saved and loaded with the scene.

    Args:
        inputVolume: A volume, or a colour picture.
        bundle: Name of the bundle; empty until one is available.
        device: The worker's name for the device.
        cpuFallback: Continue on the CPU when the memory of the graphics card is full.
        onlySlices: Segment only the slices from firstSlice to lastSlice.
        firstSlice: Index of an axial slice.
        lastSlice: Index of an axial slice, which is included.
        allItems: Segment each item of the volume's sequence.
        scale: Factor, or diameter of the field of view ("1400px"), of a fundus photograph; empty to find it.
        outputSegmentation: Segmentation to write into; None for a new one.
        result: The latest segmentation.
    """

    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007 (Slicer reads it)
    bundle: str = ""
    device: str = "auto"
    cpuFallback: bool = False
    onlySlices: bool = False
    firstSlice: Annotated[int, Minimum(0)] = 0
    lastSlice: Annotated[int, Minimum(0)] = 0
    allItems: bool = False
    scale: str = ""
    outputSegmentation: vtkMRMLSegmentationNode
    result: vtkMRMLSegmentationNode
