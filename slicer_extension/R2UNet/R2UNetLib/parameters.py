"""What the panel remembers with the scene."""

from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLVectorVolumeNode
from slicer.parameterNodeWrapper import Minimum, parameterNodeWrapper


@parameterNodeWrapper
class R2UNetParameters:
    """The parameter node: saved and loaded with the scene.

    Args:
        inputVolume: a volume, or a colour picture.
        bundle: name of the bundle; empty until the first one was offered.
        device: as the worker names it.
        cpuFallback: go on with the CPU when the memory of the graphics card is full.
        onlySlices: segment from firstSlice to lastSlice only.
        firstSlice: index of an axial slice.
        lastSlice: index of an axial slice, which is segmented too.
        allItems: segment each item of the volume's sequence.
        scale: factor, or diameter of the field of view ("1400px"), of a fundus photograph; empty to find it.
        outputSegmentation: to write into; None for a new one.
        result: the segmentation that was made last.
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
