"""Conversion of the worker's masks to segments of the scene, with names, colours and terminology, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray
from vtk.util.numpy_support import vtk_to_numpy

from .problem import Problem
from .volumes import axial_axis, ijk_to_ras, is_picture

OURS = "R2UNet.Segment"  # tag of the segments made by this module: bundle and label
PICTURE = "R2UNet.Picture"  # tag of segments in colour pictures, which have an area but no volume
DENSITIES = "R2UNet.Densities"  # tag of segments in CT: what numbers.py keeps of the worker's measurements
SAME_GRID = 1e-3  # of a voxel


@dataclass
class ResultSegment:
    """A segment found by the worker.

    Args:
        key: Key that distinguishes it from the bundle's other labels.
        segment: Its name, colour and tags, without voxels.
        mask: Mask (K, J, I), 0 and 1, on the grid of the volume that the worker received.
    """

    key: str
    segment: slicer.vtkSegment
    mask: np.ndarray


@dataclass
class Undo:
    """The state of a segmentation node before segments were written into it, without its other segments."""

    node: slicer.vtkMRMLSegmentationNode
    before: list[tuple[str, slicer.vtkOrientedImageData | None, str]] = field(default_factory=list)

    def undo(self) -> None:
        """Remove the added segments and restore the replaced ones.

        Raises:
            Problem: if the segmentation is no longer in the scene.
        """
        if self.node.GetScene() is None:
            raise Problem(_("The segmentation is no longer in the scene, so there is nothing to undo."))
        segmentation = self.node.GetSegmentation()
        for segment_id, labelmap, densities in reversed(self.before):
            if segmentation.GetSegment(segment_id) is None:  # removed by the user
                continue
            if labelmap is None:
                segmentation.RemoveSegment(segment_id)
            else:
                _set_labelmap(segmentation, segment_id, labelmap)
                segmentation.GetSegment(segment_id).SetTag(DENSITIES, densities)


def read_result(path: Path) -> list[ResultSegment]:
    """The segments in the worker's ``.seg.nrrd`` file.

    Raises:
        Problem: if it cannot be read.
    """
    scene = slicer.vtkMRMLScene()  # a separate one: the user's stays unchanged until everything has been read
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise Problem(_("The result {path} could not be read: is the disk full?").format(path=path))
    segmentation = node.GetSegmentation()
    found = []
    for segment_id in segmentation.GetSegmentIDs():
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(segmentation.GetSegment(segment_id))
        found.append(ResultSegment(segment_id, segment, array_of(labelmap_of(node, segment_id))))
    return found


def check_target(
    target: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, bundle: str, partial: bool
) -> list[str]:
    """Check that the segments of a bundle can be written into a segmentation.

    Args:
        target: An existing segmentation.
        volume: The volume to be segmented.
        bundle: Name of the bundle.
        partial: Only some slices will be written.

    Returns:
        Names of this module's segments that would be overwritten.

    Raises:
        Problem: if the segmentation cannot receive them; the message gives the reason.
    """
    segmentation = target.GetSegmentation()
    if segmentation.GetNumberOfSegments() and not segmentation.IsSourceRepresentationImageData():
        raise Problem(
            _(
                "The segmentation '{name}' is made of surfaces: convert it to a binary labelmap in the module "
                "Segmentations, or choose 'Create new segmentation'."
            ).format(name=target.GetName())
        )
    if target.GetParentTransformNode() is not volume.GetParentTransformNode():
        raise Problem(
            _(
                "The segmentation '{name}' and the volume are under different transforms: give both the same one, or "
                "choose 'Create new segmentation'."
            ).format(name=target.GetName())
        )
    ours = [segment_id for segment_id, key in our_segments(target).items() if key.rpartition("/")[0] == bundle]
    if partial:
        for segment_id in ours:
            _on_grid(labelmap_of(target, segment_id), volume)
    return [segmentation.GetSegment(segment_id).GetName() for segment_id in ours]


def write_segments(
    found: Sequence[ResultSegment],
    target: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    bundle: str,
    slices: tuple[int, int] | None = None,
) -> Undo:
    """Write segments into a segmentation, in the volume's geometry, without changing the user's own segments.

    Args:
        found: Segments found by the worker.
        target: Segmentation to write into, checked by `check_target`.
        volume: The segmented volume.
        bundle: Name of the bundle.
        slices: First and last segmented axial slice: only these are changed. None for all.
    """
    segmentation = target.GetSegmentation()
    surfaces = segmentation.ContainsRepresentation(_closed_surface())
    ours = {key: segment_id for segment_id, key in our_segments(target).items()}
    undo = Undo(target)
    for result in found:
        key = f"{bundle}/{result.key.replace('/', '_')}"
        segment_id = ours.get(key)
        if segment_id is None:
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(result.segment)
            segment.SetTag(OURS, key)
            if is_picture(volume):
                segment.SetTag(PICTURE, "1")
            segment.SetLabelValue(1)
            segment.AddRepresentation(_binary_labelmap(), _image(_whole(result.mask, None, volume, slices), volume))
            segment_id = segmentation.GenerateUniqueSegmentID(result.key)
            segmentation.AddSegment(segment, segment_id)
            undo.before.append((segment_id, None, ""))
        else:
            before = labelmap_of(target, segment_id)
            mask = _whole(result.mask, before, volume, slices)
            segment = segmentation.GetSegment(segment_id)
            undo.before.append((segment_id, before, tag_of(segment, DENSITIES)))
            _set_labelmap(segmentation, segment_id, _image(mask, volume))
            segment.SetTag(DENSITIES, tag_of(result.segment, DENSITIES))
    if surfaces:
        segmentation.CreateRepresentation(_closed_surface(), True)
    return undo


def mask_of_segment(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode
) -> np.ndarray:
    """A segment on the grid of a volume under the same transform: (K, J, I), 0 and 1. The scene is not changed."""
    grid, resampled = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    grid.SetDimensions(*volume.GetImageData().GetDimensions())
    grid.SetImageToWorldMatrix(vtkMatrixFromArray(ijk_to_ras(volume)))
    grid.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        labelmap_of(node, segment_id), grid, resampled, False
    )
    return array_of(resampled)


def our_segments(node: slicer.vtkMRMLSegmentationNode) -> dict[str, str]:
    """ID of each segment made by this module -> bundle and label."""
    segments = node.GetSegmentation()
    keys = {segment_id: tag_of(segments.GetSegment(segment_id), OURS) for segment_id in segments.GetSegmentIDs()}
    return {segment_id: key for segment_id, key in keys.items() if key}


def tag_of(segment: slicer.vtkSegment, name: str) -> str:
    """A tag of a segment; empty if it has none."""
    tag = vtk.reference("")
    return str(tag) if segment.GetTag(name, tag) else ""


def _whole(
    mask: np.ndarray,
    before: slicer.vtkOrientedImageData | None,
    volume: slicer.vtkMRMLVolumeNode,
    slices: tuple[int, int] | None,
) -> np.ndarray:
    """The mask of the complete volume: some slices from `mask`, the others unchanged."""
    if slices is None:
        return mask
    if before is None:
        whole = np.zeros(volume.GetImageData().GetDimensions()[::-1], np.uint8)
    else:
        whole = _on_grid(before, volume)
    where = [slice(None)] * 3
    where[2 - axial_axis(ijk_to_ras(volume))] = slice(slices[0], slices[1] + 1)
    whole[tuple(where)] = mask
    return whole


def _on_grid(labelmap: slicer.vtkOrientedImageData, volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """A labelmap as (K, J, I) of the complete volume, 0 and 1.

    Raises:
        Problem: if its voxels differ from the volume's.
    """
    to_volume = np.linalg.inv(ijk_to_ras(volume)) @ image_to_world(labelmap)
    shift = np.round(to_volume[:3, 3]).astype(int)
    expected = np.eye(4)
    expected[:3, 3] = shift
    extent = labelmap.GetExtent()
    dimensions = volume.GetImageData().GetDimensions()
    starts = [extent[2 * axis] + shift[axis] for axis in range(3)]
    stops = [extent[2 * axis + 1] + shift[axis] + 1 for axis in range(3)]
    inside = min(starts) >= 0 and all(stop <= count for stop, count in zip(stops, dimensions, strict=True))
    if np.abs(to_volume - expected).max() * max(dimensions) > SAME_GRID * max(dimensions) or not inside:
        raise Problem(
            _(
                "The segmentation has other voxels than the volume '{name}', so single slices cannot be written into "
                "it: choose 'Create new segmentation'."
            ).format(name=volume.GetName())
        )
    whole = np.zeros(dimensions[::-1], np.uint8)
    where = tuple(slice(start, stop) for start, stop in zip(starts[::-1], stops[::-1], strict=True))
    whole[where] = array_of(labelmap)
    return whole


def labelmap_of(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> slicer.vtkOrientedImageData:
    """A copy of the voxels of one segment, whether or not it shares its labelmap with others."""
    labelmap = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, labelmap)
    return labelmap


def array_of(labelmap: slicer.vtkOrientedImageData) -> np.ndarray:
    """The voxels of a labelmap: (K, J, I), 0 and 1."""
    scalars = labelmap.GetPointData().GetScalars()
    if scalars is None:
        return np.zeros(labelmap.GetDimensions()[::-1], np.uint8)
    return (vtk_to_numpy(scalars).reshape(labelmap.GetDimensions()[::-1]) > 0).astype(np.uint8)


def _image(mask: np.ndarray, volume: slicer.vtkMRMLVolumeNode) -> slicer.vtkOrientedImageData:
    """A mask (K, J, I) as a labelmap in the geometry of the volume."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
    image.SetImageToWorldMatrix(vtkMatrixFromArray(ijk_to_ras(volume)))
    return image


def image_to_world(labelmap: slicer.vtkOrientedImageData) -> np.ndarray:
    """The matrix from a labelmap's voxels to RAS, (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return arrayFromVTKMatrix(matrix)


def _set_labelmap(segmentation: slicer.vtkSegmentation, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
    """Replace a segment's voxels; its name, colour and place in the list stay."""
    segmentation.SeparateSegmentLabelmap(segment_id)  # which other segments may share
    segment = segmentation.GetSegment(segment_id)
    segment.RemoveAllRepresentations()
    segment.SetLabelValue(1)
    segment.AddRepresentation(_binary_labelmap(), labelmap)


def _binary_labelmap() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def _closed_surface() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
