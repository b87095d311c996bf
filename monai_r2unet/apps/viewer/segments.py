"""Images and masks as nodes of the scene: from SimpleITK (LPS) to MRML (RAS), voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import slicer
import vtk
from slicer.util import updateVolumeFromArray, vtkMatrixFromArray
from vtk.util.numpy_support import vtk_to_numpy

from monai_r2unet.images.grid import axes_in_mm

__all__ = ["Segment", "add_segmentation", "add_surface", "add_volume", "label_array"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SURFACE_VOXELS = 12e6  # a larger mask would block the views, so its surface is made of every second or third voxel


@dataclass(frozen=True)
class Segment:
    """The meaning of a value in a mask.

    Args:
        value: Value in the mask, 1 and up.
        name: Displayed name.
        colour: RGB, 0 to 255.
    """

    value: int
    name: str
    colour: tuple[int, int, int]


def add_volume(scene: Any, image: sitk.Image, name: str) -> Any:
    """Add an image to a scene.

    Args:
        scene: The MRML scene.
        image: 3D volume, or 2D picture, which becomes a volume of one slice; colour is a vector image.
        name: Name of the new node.

    Returns:
        The volume node, with a display node.
    """
    colour = image.GetNumberOfComponentsPerPixel() > 1
    kind = "vtkMRMLVectorVolumeNode" if colour else "vtkMRMLScalarVolumeNode"
    node = scene.AddNewNodeByClass(kind, name)
    array = sitk.GetArrayViewFromImage(image)
    updateVolumeFromArray(node, array if image.GetDimension() == 3 else array[None])
    node.SetIJKToRASMatrix(vtkMatrixFromArray(_ijk_to_ras(image)))
    node.CreateDefaultDisplayNodes()
    return node


def label_array(mask: sitk.Image) -> npt.NDArray[np.uint8]:
    """The voxels of a mask, (K, J, I); (1, J, I) for a 2D picture. A picture with one label holds 0 and 255."""
    array: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(mask).astype(np.uint8)
    if mask.GetDimension() == 2:
        array = array[None]
        if not np.isin(array, (0, 255), invert=True).any():
            array //= 255
    return array


def add_segmentation(
    scene: Any, labels: npt.NDArray[np.uint8], image: sitk.Image, segments: Sequence[Segment], name: str
) -> Any:
    """Add a mask to a scene; its segments share one labelmap, like segmentations loaded by Slicer.

    Args:
        scene: The MRML scene.
        labels: Values of the segments, (K, J, I), 0 background.
        image: Image that provides the grid of the labels.
        segments: Meaning of the values.
        name: Name of the new node.
    """
    return _add(scene, labels, _ijk_to_ras(image), segments, name)


def add_surface(
    scene: Any, labels: npt.NDArray[np.uint8], image: sitk.Image, segments: Sequence[Segment], name: str
) -> Any:
    """Add the smooth surface of a mask to a scene, for the 3D view only; arguments as in `add_segmentation`."""
    step = int(np.ceil((labels.size / SURFACE_VOXELS) ** 0.5))
    coarse = labels[:, ::step, ::step]  # within the slices, which are usually thicker than their voxels are wide
    matrix = _ijk_to_ras(image)
    matrix[:3, :2] *= step
    node = _add(scene, np.ascontiguousarray(coarse), matrix, segments, name)
    node.CreateClosedSurfaceRepresentation()
    return node


def _add(
    scene: Any,
    labels: npt.NDArray[np.uint8],
    ijk_to_ras: npt.NDArray[np.float64],
    segments: Sequence[Segment],
    name: str,
) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetDimensions(*labels.shape[::-1])
    labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = labels.ravel()
    labelmap.SetImageToWorldMatrix(vtkMatrixFromArray(ijk_to_ras))
    representation = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for one in segments:
        segment = slicer.vtkSegment()
        segment.SetName(one.name)
        segment.SetColor(*(part / 255 for part in one.colour))
        segment.SetLabelValue(one.value)
        segment.AddRepresentation(representation, labelmap)
        node.GetSegmentation().AddSegment(segment, f"{one.name}_{one.value}")
    return node


def _ijk_to_ras(image: sitk.Image) -> npt.NDArray[np.float64]:
    matrix = np.eye(4)
    dimension = image.GetDimension()
    matrix[:dimension, :dimension] = axes_in_mm(image)
    matrix[:dimension, 3] = image.GetOrigin()
    ras: npt.NDArray[np.float64] = LPS_TO_RAS @ matrix
    return ras
