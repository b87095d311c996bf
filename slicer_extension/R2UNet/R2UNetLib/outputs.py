"""Destinations of results: new segmentation nodes, sequences of them, and the preview."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from .problem import Problem
from .segments import ResultSegment, write_segments

PREVIEW_OF = "R2UNet.PreviewOf"  # attribute of a preview segmentation: ID of its volume


def new_segmentation(volume: slicer.vtkMRMLVolumeNode, title: str) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation in the geometry of a volume, under its transform and beside it in the data tree.

    Args:
        volume: The segmented volume.
        title: Title of the segmented structure.
    """
    scene = slicer.mrmlScene
    name = scene.GenerateUniqueName(f"{volume.GetName()} {title}")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    beside = tree.GetItemByDataNode(volume)
    if beside:
        tree.SetItemParent(tree.GetItemByDataNode(node), tree.GetItemParent(beside))
    return node


def preview_segmentation(volume: slicer.vtkMRMLVolumeNode, title: str) -> slicer.vtkMRMLSegmentationNode:
    """The segmentation that shows previews of a volume, created with the first preview and not saved."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(PREVIEW_OF) == volume.GetID():
            break
    else:
        node = new_segmentation(volume, _("{title} (preview)").format(title=title))
        node.SetAttribute(PREVIEW_OF, volume.GetID())
        node.SetSaveWithScene(False)
    node.SetDisplayVisibility(True)
    return node


def hide_preview(volume: slicer.vtkMRMLVolumeNode) -> None:
    """Hide the preview of a volume, once there is a better result."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(PREVIEW_OF) == volume.GetID():
            node.SetDisplayVisibility(False)


def sequence_of(
    volume: slicer.vtkMRMLVolumeNode,
) -> tuple[slicer.vtkMRMLSequenceBrowserNode, slicer.vtkMRMLSequenceNode] | None:
    """The sequence whose selected item the volume shows, and its browser; None if there is none."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        sequence = browser.GetSequenceNode(volume)
        if sequence is not None:
            return browser, sequence
    return None


def new_sequence(
    volume: slicer.vtkMRMLVolumeNode, title: str, results: Sequence[Sequence[ResultSegment]], bundle: str
) -> slicer.vtkMRMLSegmentationNode:
    """A sequence of segmentations that is browsed together with the volume's sequence.

    Args:
        volume: Volume that shows the selected item of a sequence.
        title: Title of the segmented structure.
        results: Segments of each item.
        bundle: Name of the bundle.

    Returns:
        The segmentation that shows the selected item.

    Raises:
        Problem: if the sequence is no longer in the scene.
    """
    found = sequence_of(volume)
    if found is None:
        raise Problem(_("The sequence was removed while it was being segmented, so nothing was added."))
    browser, source = found
    name = slicer.mrmlScene.GenerateUniqueName(f"{volume.GetName()} {title}")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    for property_ in ("IndexName", "IndexUnit", "IndexType", "NumericIndexValueTolerance"):
        getattr(sequence, f"Set{property_}")(getattr(source, f"Get{property_}")())
    item_scene = slicer.vtkMRMLScene()  # the items are copied into the sequence from here
    for index, segments in enumerate(results):
        node = item_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        item = source.GetNthDataNode(index)
        node.SetReferenceImageGeometryParameterFromVolumeNode(item)
        write_segments(segments, node, item, bundle)
        sequence.SetDataNodeAtValue(node, source.GetNthIndexValue(index))
        item_scene.RemoveNode(node)
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    proxy.CreateDefaultDisplayNodes()
    proxy.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return proxy
