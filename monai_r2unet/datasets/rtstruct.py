"""Lung contours of a DICOM RTSTRUCT, converted to a mask on the CT's grid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import check_sound

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["fill_polygon", "is_structure_set", "lung_mask", "referenced_series"]

_LUNG_NAMES = frozenset(
    f"{first}{second}"
    for side in ("l", "r", "left", "right")
    for first, second in (("lung", side), (side, "lung"), ("lungs", side), (side, "lungs"))
) | {"lung", "lungs", "lungtotal", "lungstotal", "totallung", "totallungs", "bothlungs"}


def is_structure_set(path: Path) -> bool:
    """Whether a DICOM file is an RTSTRUCT. Raises InputError if pydicom is not installed."""
    return bool(_read(path, "Modality").get("Modality") == "RTSTRUCT")


def referenced_series(path: Path) -> str | None:
    """Return the SeriesInstanceUID of the CT on which an RTSTRUCT was drawn, or None if it is not stated."""
    try:
        frame = _read(path, "ReferencedFrameOfReferenceSequence").ReferencedFrameOfReferenceSequence[0]
        series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        return str(series.SeriesInstanceUID)
    except (AttributeError, IndexError):
        return None


def lung_mask(ct: sitk.Image, path: Path) -> sitk.Image:
    """Draw the lungs of an RTSTRUCT on the grid of its CT.

    A voxel belongs to a structure if its centre lies inside an odd number of the structure's contours on that slice, so
    a contour within another one is a hole. The mask is the union of all structures with a lung's name: ``Lung_L``,
    ``Lung_R``, ``Lung-Left``, ``Right Lung``, ``lungs`` and similar, in any case.

    Args:
        ct: The CT, with its slices along the third axis.
        path: The RTSTRUCT; contours in mm in patient coordinates (LPS).

    Returns:
        uint8 {0, 1} on the grid of ``ct``.

    Raises:
        InputError: if no structure has a lung's name, or if its contours do not lie on the slices of ``ct``.
    """
    structures = _read(path)
    names = {roi.ROINumber: str(roi.ROIName) for roi in structures.get("StructureSetROISequence", [])}
    lungs = {number for number, name in names.items() if re.sub(r"[^a-z]", "", name.lower()) in _LUNG_NAMES}
    if not lungs:
        raise InputError(
            f"{path} has no structure named as a lung, it has {', '.join(sorted(names.values())) or 'none at all'}; "
            "name them Lung_L and Lung_R"
        )
    columns, rows, slices = ct.GetSize()
    mask = np.zeros((slices, rows, columns), dtype=bool)
    for roi in structures.get("ROIContourSequence", []):
        if roi.ReferencedROINumber in lungs:
            structure = np.zeros_like(mask)
            for contour in roi.get("ContourSequence", []):
                if contour.get("ContourGeometricType") in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                    _draw(structure, _to_index(ct, contour.ContourData), names[roi.ReferencedROINumber], path)
            mask |= structure
    if not mask.any():
        raise InputError(f"the lung contours of {path} enclose no voxel of its CT; check that the two belong together")
    result = sitk.GetImageFromArray(mask.astype(np.uint8))
    result.CopyInformation(ct)
    return result


def fill_polygon(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Find the pixels whose centre lies inside a closed polygon, by the even-odd rule.

    Args:
        x: Column of each corner, in pixels; integers are pixel centres.
        y: Row of each corner.
        shape: Rows and columns of the result.

    Returns:
        Boolean array of ``shape``.
    """
    inside = np.zeros(shape, dtype=bool)
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    for row in range(max(0, int(np.ceil(y.min()))), min(shape[0] - 1, int(np.floor(y.max()))) + 1):
        # Each edge includes its lower end but not its upper one, so that a corner on the row is not counted twice.
        crossed = (y <= row) != (y_next <= row)
        start, rise = x[crossed], y_next[crossed] - y[crossed]
        for crossing in start + (row - y[crossed]) * (x_next[crossed] - start) / rise:
            inside[row, max(0, int(np.ceil(crossing))) :] ^= True
    return inside


def _to_index(ct: sitk.Image, points: Any) -> np.ndarray:
    """Convert (x1, y1, z1, x2, ...) in mm to (N, 3) fractional column, row and slice of ``ct``."""
    to_index = np.linalg.inv(np.reshape(ct.GetDirection(), (3, 3)) * np.array(ct.GetSpacing()))
    offsets = np.reshape([float(value) for value in points], (-1, 3)) - np.array(ct.GetOrigin())
    index: np.ndarray = offsets @ to_index.T
    return index


def _draw(structure: np.ndarray, index: np.ndarray, name: str, path: Path) -> None:
    """Toggle the voxels inside one contour; contours above or below the CT are left out."""
    place = round(float(index[:, 2].mean()))
    if np.abs(index[:, 2] - place).max() > 0.25:
        raise InputError(
            f"a contour of {name} in {path} does not lie on a slice of its CT (at slice {index[:, 2].mean():.2f}, from "
            f"{index[:, 2].min():.2f} to {index[:, 2].max():.2f}); draw the contours on the slices of this CT"
        )
    if 0 <= place < len(structure):
        structure[place] ^= fill_polygon(index[:, 0], index[:, 1], structure.shape[1:])


def _read(path: Path, *tags: str) -> Dataset:
    try:
        import pydicom
    except ImportError:
        raise InputError(
            'reading contours (DICOM RTSTRUCT) needs pydicom; install it with: pip install "monai-r2unet[dicom]"'
        ) from None
    try:
        check_sound(path)  # pydicom reads sequences that are nested without end until Python stops it
        return pydicom.dcmread(path, specific_tags=list(tags) or None)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(f"{path} cannot be read as DICOM ({error}); check that the file is complete") from None
