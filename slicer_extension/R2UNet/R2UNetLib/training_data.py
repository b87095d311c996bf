"""Volumes and segmentations of the scene as a data set in a folder, from which a bundle is planned and trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from .outputs import PREVIEW_OF
from .problem import Problem
from .segments import mask_of_segment
from .volumes import check_volume, ijk_to_ras, is_picture, write_node, write_volume

DEFAULT = "85756007"  # code of Slicer's default terminology, "Tissue", which says nothing
MOST_LABELS = 255


@dataclass(frozen=True)
class Case:
    """A volume and a segmentation that was drawn on it."""

    volume: slicer.vtkMRMLVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode

    @property
    def segments(self) -> list[slicer.vtkSegment]:
        """The segments."""
        segmentation = self.segmentation.GetSegmentation()
        return [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]


def cases_of_scene() -> list[Case]:
    """Each segmentation with segments and the volume that it was drawn on; previews are left out."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = []
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        volume = segmentation.GetNodeReference(role)
        segments = segmentation.GetSegmentation().GetNumberOfSegments()
        if volume is not None and segments and segmentation.GetAttribute(PREVIEW_OF) is None:
            found.append(Case(volume, segmentation))
    return found


def label_names(cases: Sequence[Case]) -> list[str]:
    """Names of all segments, each once, in the order in which they occur: the labels 1, 2, ..."""
    return list(dict.fromkeys(segment.GetName() for case in cases for segment in case.segments))


def check_cases(cases: Sequence[Case]) -> None:
    """Check that a data set can be made of these cases.

    Raises:
        Problem: if it cannot.
    """
    if not cases:
        raise Problem(_("Choose at least one volume with a segmentation that was drawn on it."))
    names = label_names(cases)
    if len(names) > MOST_LABELS:
        problem = _("The segmentations have {count} different segments, but a bundle can have {most} labels.")
        raise Problem(problem.format(count=len(names), most=MOST_LABELS))
    volumes = [case.volume.GetID() for case in cases]
    for case in cases:
        check_volume(case.volume)
        name = case.volume.GetName()
        if volumes.count(case.volume.GetID()) > 1:
            raise Problem(_("'{name}' is chosen with two segmentations: choose one of them.").format(name=name))
        if is_picture(case.volume):
            problem = _("'{name}' is a colour picture: keep pictures and masks in a folder, and train from that.")
            raise Problem(problem.format(name=name))
        if case.segmentation.GetParentTransformNode() is not case.volume.GetParentTransformNode():
            problem = _("'{name}' and its segmentation are under different transforms: give both the same one.")
            raise Problem(problem.format(name=name))
        own = [segment.GetName() for segment in case.segments]
        if len(set(own)) < len(own):
            problem = _("The segmentation of '{name}' has two segments of the same name: rename one, or merge them.")
            raise Problem(problem.format(name=name))


def write_data_set(cases: Sequence[Case], folder: Path, modality: str = "") -> None:
    """Write the cases as a data set that ``monai-r2unet new`` reads; names of volumes and patients are left out.

    Args:
        cases: The cases, checked by `check_cases`.
        folder: Folder to create.
        modality: ``"CT"`` or ``"MR"``; empty to leave it to the planner.

    Raises:
        Problem: if segments overlap, or a file cannot be written.
    """
    names = label_names(cases)
    try:
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True)
        patients: dict[str, str] = {}
        entries = []
        for number, case in enumerate(cases, start=1):
            image, label = f"images/case_{number:03d}.nrrd", f"masks/case_{number:03d}.nrrd"
            write_volume(case.volume, folder / image)
            _write_mask(case, names, folder / label)
            patient = patients.setdefault(_patient(case.volume), f"patient_{len(patients) + 1:03d}")
            entries.append({"image": image, "label": label, "patient": patient})
        content = {
            "name": folder.name,
            **({"modality": {"0": modality}} if modality else {}),
            "labels": dict(enumerate(["background", *names])),
            "appearance": _appearance(cases),
            "training": entries,
        }
        (folder / "dataset.json").write_text(json.dumps(content, indent=4), encoding="utf-8")
    except OSError as error:
        problem = _("The data set could not be written to {folder} ({error}): choose another folder.")
        raise Problem(problem.format(folder=folder, error=error)) from error


def _write_mask(case: Case, names: Sequence[str], path: Path) -> None:
    mask = np.zeros(case.volume.GetImageData().GetDimensions()[::-1], np.uint8)
    segmentation = case.segmentation.GetSegmentation()
    for segment_id in segmentation.GetSegmentIDs():
        name = segmentation.GetSegment(segment_id).GetName()
        inside = mask_of_segment(case.segmentation, segment_id, case.volume) > 0
        common = np.count_nonzero(mask[inside])
        if common:
            other = names[mask[inside & (mask > 0)][0] - 1]
            problem = _(
                "In '{segmentation}', {name} and {other} overlap in {count} voxels, but the labels of a bundle do not "
                "overlap: give each voxel to one of them."
            )
            segmentation_name = case.segmentation.GetName()
            raise Problem(problem.format(segmentation=segmentation_name, name=name, other=other, count=common))
        mask[inside] = names.index(name) + 1
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLLabelMapVolumeNode")
    node.UnRegister(None)  # from now on owned by the Python variable
    image = vtk.vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(case.volume)))
    write_node(node, path)


def _patient(volume: slicer.vtkMRMLVolumeNode) -> str:
    """What identifies a volume's patient: from DICOM, or the volume itself."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = tree.GetItemByDataNode(volume)
    patient = tree.GetAttributeFromItemAncestor(item, "DICOM.PatientID", "Patient") if item else ""
    return f"patient {patient}" if patient else f"volume {volume.GetID()}"


def _appearance(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Colour and terminology of each label, as its first segment has them."""
    found: dict[str, dict[str, Any]] = {}
    for segment in (segment for case in cases for segment in case.segments):
        if segment.GetName() not in found:
            colour = [round(255 * part) for part in segment.GetColor()]
            found[segment.GetName()] = {"colour": colour, **_terminology(segment)}
    return found


def _terminology(segment: slicer.vtkSegment) -> dict[str, Any]:
    """The segment's codes; nothing if they are Slicer's default, so that the planner looks at the name."""
    entry = vtk.reference("")
    if not segment.GetTag("TerminologyEntry", entry):
        return {}
    parts = [part.split("^") for part in str(entry).split("~")[1:4]]
    codes = {
        kind: {"scheme": part[0], "value": part[1], "meaning": part[2]}
        for kind, part in zip(("category", "type", "modifier"), parts, strict=False)
        if len(part) == 3 and part[0] and part[1]
    }
    if "category" not in codes or codes.get("type", {}).get("value", DEFAULT) == DEFAULT:
        return {}
    return {"terminology": codes}
