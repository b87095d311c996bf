"""Numbers of segments: their sizes, and the densities that the worker measured in CT."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from .segments import (
    DENSITIES,
    PICTURE,
    ResultSegment,
    array_of,
    image_to_world,
    labelmap_of,
    our_segments,
    tag_of,
)

TOTAL = "total"  # the worker's name for all labels together


@dataclass
class Measurement:
    """Numbers of a segment, or of all segments of a bundle together.

    Args:
        name: Name of the segment.
        voxels: Number of voxels, or of pixels in a picture.
        millilitres: Volume; None in a picture.
        densities: The worker's densities; empty if it measured none, or if the segment was edited since.
    """

    name: str
    voxels: int
    millilitres: float | None
    densities: Mapping[str, Any]


def columns(rows: Sequence[Measurement]) -> list[tuple[str, str, str]]:
    """Title and explanation of each column, and the name of its number; densities only if any segment has them."""
    sizes = [
        (_("Segment"), _("Name of the segment."), "name"),
        (_("Voxels"), _("Number of voxels, or of pixels in a picture."), "voxels"),
        (_("Volume (mL)"), _("Volume in millilitres, which are cubic centimetres; pictures have none."), "millilitres"),
    ]
    return sizes + _density_columns() if any(row.densities for row in rows) else sizes


def _density_columns() -> list[tuple[str, str, str]]:
    return [
        (_("Mean (HU)"), _("Mean density."), "mean_hu"),
        (_("Median (HU)"), _("Median density."), "median_hu"),
        (_("SD (HU)"), _("Standard deviation of the density."), "std_hu"),
        (_("15th percentile (HU)"), _("15 % of the voxels are below this density."), "p15_hu"),
        (_("LAA-950 (%)"), _("Share of the voxels below -950 HU, a measure of emphysema."), "laa950_percent"),
        (_("Opacified (%)"), _("Share of the voxels from -500 to 100 HU."), "opacified_percent"),
        (
            _("Reaches the border"),
            _("Faces of the image that the segment reaches: a part of it may lie beyond them."),
            "touches_border",
        ),
    ]


def keep_densities(results: Sequence[ResultSegment], densities: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the worker's densities in the segments that they describe.

    Args:
        results: Segments found by the worker in one volume.
        densities: The worker's densities of each label, and of all together.
    """
    for result in results:
        if own := densities.get(result.segment.GetName()):
            kept = {"own": _numbers(own), "mask": _fingerprint(result.mask)}
            if TOTAL in densities:
                kept[TOTAL] = _numbers(densities[TOTAL])
            result.segment.SetTag(DENSITIES, json.dumps(kept))


def measure(target: slicer.vtkMRMLSegmentationNode) -> list[Measurement]:
    """Numbers of this module's segments in a segmentation, and of each bundle's segments together, if it has several.

    Sizes are those of the segments as they are now. Densities are the worker's, until a segment is edited.
    """
    bundles: dict[str, list[tuple[Measurement, dict[str, Any]]]] = {}
    for segment_id, key in our_segments(target).items():
        segment = target.GetSegmentation().GetSegment(segment_id)
        labelmap = labelmap_of(target, segment_id)
        mask = array_of(labelmap)
        voxels = int(np.count_nonzero(mask))
        voxel = abs(np.linalg.det(image_to_world(labelmap)[:3, :3]))
        millilitres = None if segment.HasTag(PICTURE) else voxels * voxel / 1000
        kept = json.loads(tag_of(segment, DENSITIES) or "{}")
        if kept and kept["mask"] != _fingerprint(mask):
            kept = {}
        measured = Measurement(segment.GetName(), voxels, millilitres, kept.get("own", {}))
        bundles.setdefault(key.rpartition("/")[0], []).append((measured, kept.get(TOTAL, {})))
    rows = []
    for found in bundles.values():
        rows += [measured for measured, _total in found]
        if len(found) > 1 and all(total for _measured, total in found):
            voxels, millilitres = (
                sum(getattr(one, name) for one, _total in found) for name in ("voxels", "millilitres")
            )
            rows.append(Measurement(_("Together"), voxels, millilitres, found[0][1]))
    return rows


def cells(rows: Sequence[Measurement]) -> list[list[str]]:
    """Texts of a table of numbers, without its titles."""
    shown = columns(rows)
    return [[_text({**vars(row), **row.densities}.get(name)) for *_texts, name in shown] for row in rows]


def table_node(rows: Sequence[Measurement], name: str) -> slicer.vtkMRMLTableNode:
    """Add a table of numbers to the scene; Slicer can plot it and save it as text."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    lines = cells(rows)
    for column, (title, *_rest) in enumerate(columns(rows)):
        texts = [line[column] for line in lines]
        numeric = column > 0 and all(_is_number(text) for text in texts)
        array = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        array.SetName(title)
        for text in texts:
            array.InsertNextValue(float(text) if numeric else text)
        node.AddColumn(array)
    return node


def _numbers(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {name: measured[name] for *_texts, name in _density_columns()}


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fingerprint(mask: np.ndarray) -> int:
    """A number that changes when a mask (K, J, I) is edited, but not with the empty space around it."""
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        mask = mask.take(range(filled[0], filled[-1] + 1) if filled.size else [], axis=axis)
    return zlib.crc32(repr(mask.shape).encode() + np.packbits(mask).tobytes())
