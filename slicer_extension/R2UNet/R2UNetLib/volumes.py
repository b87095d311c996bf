"""Volumes of the scene as files for the worker: direction of their axial slices, and slabs of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import arrayFromVTKMatrix

from .problem import Problem

SUPERIOR = 2  # axis of RAS


def check_volume(volume: slicer.vtkMRMLVolumeNode | None) -> None:
    """Check that there is a volume with voxels to segment.

    Raises:
        Problem: if no volume was chosen, or if it holds no voxels.
    """
    if volume is None:
        raise Problem(_("Choose the volume to segment."))
    image = volume.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        raise Problem(_("The volume '{name}' holds no voxels: load its image again.").format(name=volume.GetName()))


def is_picture(volume: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the volume is a colour picture, which has no size in millilitres."""
    return volume.GetImageData().GetNumberOfScalarComponents() > 1


def ijk_to_ras(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """IJK to RAS, 4x4, in mm, without the transforms above the volume."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return arrayFromVTKMatrix(matrix)


def axial_axis(matrix: np.ndarray) -> int:
    """The voxel axis (0: I, 1: J, 2: K) along which axial slices are stacked, as in the worker.

    The voxel axes of the nearest rotation are matched to right, anterior and superior, the best aligned first.

    Args:
        matrix: IJK to RAS.
    """
    left, _stretch, right = np.linalg.svd(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0))
    cosines = np.abs(left @ right)
    found: dict[int, int] = {}
    for axis in np.argsort(-cosines.max(axis=0), kind="stable"):
        anatomical = int(np.argmax(cosines[:, axis]))
        found[anatomical] = int(axis)
        cosines[anatomical, :] = 0
    return found[SUPERIOR]


def slice_count(volume: slicer.vtkMRMLVolumeNode) -> int:
    """Number of axial slices."""
    return int(volume.GetImageData().GetDimensions()[axial_axis(ijk_to_ras(volume))])


def shown_slice(volume: slicer.vtkMRMLVolumeNode, view: str = "Red") -> int:
    """Index of the volume's axial slice at the centre of a slice view.

    Raises:
        Problem: if there is no such view, or if it shows none of the volume's slices.
    """
    view_node = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
    if view_node is None:
        raise Problem(_("The slice view '{view}' is not there: open a layout that has it.").format(view=view))
    centre = [view_node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    to_volume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), to_volume)
    matrix = ijk_to_ras(volume)
    ijk = np.linalg.inv(matrix) @ np.append(to_volume.TransformPoint(centre), 1.0)
    index = round(ijk[axial_axis(matrix)])
    if not 0 <= index < slice_count(volume):
        raise Problem(
            _("The {view} view does not show '{name}': move it to the slice that you want to see segmented.").format(
                view=view, name=volume.GetName()
            )
        )
    return int(index)


def write_volume(volume: slicer.vtkMRMLVolumeNode, path: Path, slices: tuple[int, int] | None = None) -> None:
    """Write a volume, or some axial slices of it, uncompressed and with its geometry, for the worker.

    Args:
        volume: A volume with voxels.
        path: Output file, ending with ``.nrrd``.
        slices: Index of the first and of the last axial slice; None for all.

    Raises:
        Problem: if the file cannot be written.
    """
    write_node(volume if slices is None else _slab(volume, slices), path)


def write_node(node: slicer.vtkMRMLVolumeNode, path: Path) -> None:
    """Write a volume node, in the scene or not, uncompressed.

    Raises:
        Problem: if the file cannot be written.
    """
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(node):
        raise Problem(_("The volume could not be written to {path}: is the disk full?").format(path=path))


def _slab(volume: slicer.vtkMRMLVolumeNode, slices: tuple[int, int]) -> slicer.vtkMRMLVolumeNode:
    """A volume outside the scene with only these axial slices."""
    matrix = ijk_to_ras(volume)
    axis = axial_axis(matrix)
    extent = list(volume.GetImageData().GetExtent())
    extent[2 * axis : 2 * axis + 2] = slices
    cut = vtk.vtkExtractVOI()
    cut.SetInputData(volume.GetImageData())
    cut.SetVOI(extent)
    to_zero = vtk.vtkImageChangeInformation()  # a volume's first voxel has the index 0
    to_zero.SetInputConnection(cut.GetOutputPort())
    to_zero.SetOutputExtentStart(0, 0, 0)
    to_zero.SetOutputOrigin(0, 0, 0)
    to_zero.Update()

    first = np.zeros(3)
    first[axis] = slices[0]
    matrix[:3, 3] += matrix[:3, :3] @ first
    slab = slicer.mrmlScene.CreateNodeByClass(volume.GetClassName())
    slab.UnRegister(None)  # from now on owned by the Python variable
    slab.SetAndObserveImageData(to_zero.GetOutput())
    slab.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return slab
