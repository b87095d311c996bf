"""Write DICOM RT Structure Sets: masks as contours, for radiotherapy planning.

Needs the extra `dicom` (pydicom, contourpy). highdicom writes no structure sets, and rt-utils draws contours through
the outermost pixels instead of around them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.bundle import Bundle
from monai_r2unet.files import written_whole
from monai_r2unet.images.contours import closed_contours
from monai_r2unet.images.dicom_files import Chosen
from monai_r2unet.images.dicom_source import MAY_BE_EMPTY, check_dicom_output, check_repeated, slices_of, source_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["check_dicom_rtstruct", "check_dicom_rtstruct_source", "write_dicom_rtstruct"]


def check_dicom_rtstruct(path: str | os.PathLike[str], source: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check, before any work is done, that the mask of `source` can be written to `path` as an RT Structure Set.

    Raises:
        InputError: as `check_dicom_output`.
    """
    check_dicom_output(path, source, what="DICOM RTSTRUCT", packages=("pydicom", "contourpy"), overwrite=overwrite)


def check_dicom_rtstruct_source(source: str | os.PathLike[str], *, series: Chosen = None) -> None:
    """Check, before any work is done, that `source` has all that a structure set must repeat.

    Raises:
        InputError: the source lacks its study or frame of reference.
    """
    check_repeated(source_slices(Path(source), series), Path(source), "a structure set")


def write_dicom_rtstruct(
    mask: sitk.Image,
    bundle: Bundle,
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    series: Chosen = None,
    overwrite: bool = False,
) -> None:
    """Write a mask atomically as DICOM RTSTRUCT, in the study and frame of reference of its source.

    Args:
        mask: 3D mask on the grid of the source; 0 background, 1 and up the bundle's labels.
        bundle: Source of the names, colours and terminology of the regions of interest.
        source: The segmented DICOM file, or the folder with the segmented series.
        path: Output file.
        series: UID or description of the segmented series, if the folder holds several.
        overwrite: Replace an existing file.

    Raises:
        InputError: as `check_dicom_rtstruct`; or the mask does not match the source, or the source lacks its study or
            frame of reference.
    """
    check_dicom_rtstruct(path, source, overwrite=overwrite)
    path, source = Path(path), Path(source)
    slices = slices_of(mask, source, series)
    check_repeated(slices, source, "a structure set")
    structures = _structure_set(mask, slices, bundle)
    with written_whole(path, ".dcm") as temporary:
        structures.save_as(temporary, enforce_file_format=True)


def _structure_set(mask: sitk.Image, slices: Sequence[Dataset], bundle: Bundle) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    first, now = slices[0], datetime.datetime.now()
    title = str(bundle.metadata.get("name", bundle.name))
    structures = Dataset()
    structures.file_meta = FileMetaDataset()
    structures.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    structures.SOPClassUID = RTStructureSetStorage
    structures.SOPInstanceUID = generate_uid()
    structures.SpecificCharacterSet = first.SpecificCharacterSet
    for name in MAY_BE_EMPTY:
        setattr(structures, name, first.get(name))
    structures.StudyInstanceUID = first.StudyInstanceUID
    structures.Modality = "RTSTRUCT"
    structures.SeriesInstanceUID = generate_uid()
    structures.SeriesNumber = 1
    structures.SeriesDescription = title[:64]
    structures.OperatorsName = ""
    structures.Manufacturer = "monai-r2unet"
    structures.ManufacturerModelName = bundle.name
    structures.FrameOfReferenceUID = first.FrameOfReferenceUID
    structures.PositionReferenceIndicator = ""
    structures.InstanceNumber = 1
    structures.StructureSetLabel = "SEGMENTATION"
    structures.StructureSetName = title[:64]
    structures.StructureSetDate = structures.InstanceCreationDate = now.strftime("%Y%m%d")
    structures.StructureSetTime = structures.InstanceCreationTime = now.strftime("%H%M%S")
    structures.ReferencedFrameOfReferenceSequence = [_referenced_frame(slices)]
    structures.StructureSetROISequence = [_region(label, first) for label in bundle.labels]
    structures.ROIContourSequence = [_contours(label, mask, slices) for label in bundle.labels]
    structures.RTROIObservationsSequence = [_observation(label) for label in bundle.labels]
    structures.ApprovalStatus = "UNAPPROVED"
    return structures


def _referenced_frame(slices: Sequence[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(header) for header in slices]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # retired, and still required here
    study.ReferencedSOPInstanceUID = slices[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(header: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return image


def _region(label: Mapping[str, Any], first: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.ROINumber = label["value"]
    region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
    region.ROIName = label["name"][:64]
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    return region


def _contours(label: Mapping[str, Any], mask: sitk.Image, slices: Sequence[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.ROIDisplayColor = label["colour"]
    region.ReferencedROINumber = label["value"]
    contours = []
    for z, points in _points(mask, label["value"]):
        contour = Dataset()
        contour.ContourImageSequence = [_image(slices[z])]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(points)
        contour.ContourData = [f"{coordinate:.3f}" for coordinate in points.ravel()]  # in mm
        contours.append(contour)
    if contours:
        region.ContourSequence = contours
    return region


def _points(mask: sitk.Image, value: int) -> Iterator[tuple[int, np.ndarray]]:
    """Slice and points (N, 3), in mm in patient coordinates (LPS), of each contour of a label."""
    axes = np.reshape(mask.GetDirection(), (3, 3)) * np.array(mask.GetSpacing())
    for z, rows in enumerate(sitk.GetArrayViewFromImage(mask) == value):
        for contour in closed_contours(rows):
            index = np.column_stack([contour, np.full(len(contour), z)])
            yield z, index @ axes.T + np.array(mask.GetOrigin())


def _observation(label: Mapping[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    observation = Dataset()
    observation.ObservationNumber = label["value"]
    observation.ReferencedROINumber = label["value"]
    observation.RTROIInterpretedType = "ORGAN"
    observation.ROIInterpreter = ""
    kind = label.get("terminology", {}).get("type")
    if kind is not None:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = kind["value"], kind["scheme"], kind["meaning"]
        observation.RTROIIdentificationCodeSequence = [code]
    return observation
