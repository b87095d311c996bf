"""Write DICOM Segmentation objects: masks that refer to their source DICOM slices.

Needs the extra `dicom` (highdicom, pydicom).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet import __version__
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.files import written_whole
from monai_r2unet.images.dicom_files import Chosen
from monai_r2unet.images.dicom_source import check_dicom_output, check_repeated, slices_of, source_slices

if TYPE_CHECKING:
    import pydicom

__all__ = ["check_dicom_seg", "check_dicom_seg_source", "write_dicom_seg"]


def check_dicom_seg(path: str | os.PathLike[str], source: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check, before any work is done, that the mask of `source` can be written to `path` as DICOM SEG.

    Raises:
        InputError: as `check_dicom_output`.
    """
    check_dicom_output(path, source, what="DICOM SEG", packages=("pydicom", "highdicom"), overwrite=overwrite)


def check_dicom_seg_source(bundle: Bundle, source: str | os.PathLike[str], *, series: Chosen = None) -> None:
    """Check, before any work is done, that `source` and the bundle have all that a DICOM SEG must state.

    Args:
        bundle: Bundle that will make the mask.
        source: DICOM file, or the folder with the series.
        series: UID or description, if the folder holds several series.

    Raises:
        InputError: the source or the bundle lacks something.
    """
    slices = source_slices(Path(source), series)
    if slices:
        check_repeated(slices, Path(source), "a segmentation")
        first = slices[0]
        if not first.get("SliceThickness"):
            first.SliceThickness = "1"  # only here: the mask's own when it is written
        _segmentation(np.ones((1, first.Rows, first.Columns), np.uint8), slices[:1], bundle, Path(source))


def write_dicom_seg(
    mask: sitk.Image,
    bundle: Bundle,
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    series: Chosen = None,
    overwrite: bool = False,
) -> None:
    """Write a mask atomically as DICOM SEG (binary), in the study and frame of reference of its source.

    Args:
        mask: 3D mask on the grid of the source; 0 background, 1 and up the bundle's labels.
        bundle: Source of the segments' names, colours and terminology, and of the algorithm's name and version.
        source: The segmented DICOM file, or the folder with the segmented series.
        path: Output file, ending with ``.dcm``.
        series: UID or description of the segmented series, if the folder holds several.
        overwrite: Replace an existing file.

    Raises:
        InputError: as `check_dicom_seg`; or the mask does not match the source; or the source or the bundle lacks
            something that DICOM SEG requires.
    """
    check_dicom_seg(path, source, overwrite=overwrite)
    path, source = Path(path), Path(source)
    slices = slices_of(mask, source, series)
    check_repeated(slices, source, "a segmentation")
    segmentation = _segmentation(sitk.GetArrayFromImage(mask), slices, bundle, source)
    with written_whole(path, ".dcm") as temporary:
        segmentation.save_as(temporary, enforce_file_format=True)


def _segmentation(array: np.ndarray, slices: Sequence[pydicom.Dataset], bundle: Bundle, source: Path) -> Any:
    import highdicom as hd
    from pydicom.uid import generate_uid

    title = str(bundle.metadata.get("name", bundle.name))
    algorithm = hd.AlgorithmIdentificationSequence(
        name=title[:64],
        version=str(bundle.metadata.get("version", "unknown")),
        family=hd.sr.CodedConcept("123109", "DCM", "Artificial Intelligence"),
    )
    segments = [_segment(label, algorithm, bundle) for label in bundle.labels]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the spelling of the patient's name, which stays
            return hd.seg.Segmentation(
                source_images=slices,
                pixel_array=array.astype(np.uint8),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=generate_uid(),
                series_number=1,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="monai-r2unet",
                manufacturer_model_name=bundle.name,
                software_versions=__version__,
                device_serial_number="0",  # required, but software has none
                content_label="SEGMENTATION",
                content_description=title[:64],
                series_description=title[:64],
            )
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # of what highdicom copies
        reason = str(error).rstrip(".")
        raise InputError(
            f"the DICOM series {source} lacks what a segmentation must repeat of it ({reason}): export the series "
            "again with its study and frame of reference, or write another format"
        ) from error


def _segment(label: Mapping[str, Any], algorithm: Any, bundle: Bundle) -> Any:
    import highdicom as hd

    def code(part: str) -> Any:
        content = label.get("terminology", {}).get(part)
        if content is None:
            raise InputError(
                f"the label {label['name']!r} of the bundle {bundle.name!r} has no terminology {part}, which DICOM SEG "
                "must state: add it to configs/metadata.json, or write another format"
            )
        return hd.sr.CodedConcept(content["value"], content["scheme"], content["meaning"])

    segment = hd.seg.SegmentDescription(
        segment_number=label["value"],
        segment_label=label["name"],
        segmented_property_category=code("category"),
        segmented_property_type=code("type"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*label["colour"]),
    )
    if "modifier" in label["terminology"]:
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [code("modifier")]
    return segment
