"""The DICOM slices that a segmentation or structure set refers to, repaired as far as the standard allows."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import Chosen, is_chosen, is_dicom, series_files
from monai_r2unet.images.writing import check_place

if TYPE_CHECKING:
    import pydicom

__all__ = ["MAY_BE_EMPTY", "check_dicom_output", "check_repeated", "slices_of", "source_slices"]

OFF_GRID = 0.25  # of a voxel: largest distance of a slice from its place in the mask; DICOM positions are rounded
# What every object of a study repeats. Empty where the source has none: their values may be unknown (type 2) ...
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# ... and these may not (type 1).
REPEATED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
REFERRED = ("SOPClassUID", "SOPInstanceUID")
SEXES = ("", "M", "F", "O")
TEXT = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT")  # representations to check
UNICODE = "ISO_IR 192"


def check_dicom_output(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    what: str,
    packages: Sequence[str],
    overwrite: bool,
) -> None:
    """Check, before any work is done, that the mask of `source` can be written to `path` as a DICOM object.

    Args:
        path: Output file.
        source: The file or folder to segment.
        what: Name of the kind of object, such as "DICOM SEG".
        packages: Packages that write it.
        overwrite: Replace an existing file.

    Raises:
        InputError: a package is not installed, `source` is not DICOM, or `path` is not writable or lies among the
            slices of `source`.
    """
    path, source = Path(path), Path(source)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'writing {what} needs {" and ".join(missing)}: run pip install "monai-r2unet[dicom]", or write another '
            "format"
        )
    if not source.is_dir() and not (source.is_file() and is_dicom(source)):
        raise InputError(
            f"{path} would be {what}, which refers to the DICOM slices it was made from, but {source} is not DICOM: "
            "write .nii.gz, .nrrd, .seg.nrrd or .mha"
        )
    if source.is_dir() and path.resolve().parent == source.resolve():
        raise InputError(f"{path} lies among the slices of its series, which it would mix up: write to another folder")
    check_place(path, overwrite=overwrite)


def source_slices(source: Path, series: Chosen = None) -> list[pydicom.Dataset]:
    """The headers of the slices of a DICOM file or series. The first, whose patient and study are copied, is repaired.

    Args:
        source: DICOM file, or folder with one series or several.
        series: UID or description of the series; None for all slices of the folder.
    """
    import pydicom

    files = series_files(source) if source.is_dir() else [source]
    headers = [pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in files]
    for header in headers:
        _raise_from_groups(header)
    placed = [header for header in headers if "ImagePositionPatient" in header]
    chosen = [
        header
        for header in placed
        if is_chosen(series, header.get("SeriesInstanceUID", ""), header.get("SeriesDescription", ""))
    ]
    for header in chosen[:1]:
        _mend(header)
    return chosen


def check_repeated(slices: Sequence[pydicom.Dataset], source: Path, what: str) -> None:
    """Check that the slices have what an object must repeat of them, and refer to.

    Args:
        slices: Headers of the slices.
        source: Their file or folder.
        what: Name of the object, such as "a segmentation".

    Raises:
        InputError: a missing, empty, invalid or varying UID of study, series or frame of reference, or slices with one
            UID.
    """
    from pydicom.uid import UID

    values = {name: {str(header.get(name) or "") for header in slices} for name in (*REPEATED, *REFERRED)}
    lacking = [name for name, uids in values.items() if "" in uids]
    if lacking:
        raise InputError(
            f"the DICOM series {source} lacks {' and '.join(lacking)}, which {what} must repeat: export the series "
            "again with its study and frame of reference, or write another format"
        )
    invalid = [f"{name} {uid}" for name, uids in values.items() for uid in sorted(uids) if not UID(uid).is_valid]
    if invalid:
        raise InputError(
            f"the DICOM series {source} has the {invalid[0]}, which is no valid UID, but {what} must repeat it: export "
            "the series again with valid UIDs, or write another format"
        )
    several = [name for name in REPEATED if len(values[name]) > 1]
    if several:
        raise InputError(
            f"the slices of {source} differ in {' and '.join(several)}, of which {what} has one: put each series into "
            "its own folder, or write another format"
        )
    if len(values["SOPInstanceUID"]) < len(slices):
        raise InputError(
            f"several slices of {source} have one SOPInstanceUID, so {what} cannot refer to each: export the series "
            "again, or write another format"
        )


def slices_of(mask: sitk.Image, source: Path, series: Chosen) -> list[pydicom.Dataset]:
    """The source's headers, one for each slice of the mask, in the order of its slices."""
    chosen = source_slices(source, series)
    found: dict[int, pydicom.Dataset] = {}
    for header in chosen:
        position = [float(part) for part in header.ImagePositionPatient]
        index = np.array(mask.TransformPhysicalPointToContinuousIndex(position))
        nearest = round(index[2])
        same_size = (header.Columns, header.Rows) == mask.GetSize()[:2]
        if same_size and np.abs(index - [0, 0, nearest]).max() <= OFF_GRID:
            found[nearest] = header
    depth = mask.GetSize()[2]
    if sorted(found) != list(range(depth)) or len(chosen) != depth:
        raise InputError(
            f"the mask of {depth} slices is not that of the {len(chosen)} DICOM slices of {source}: give the series it "
            "was made from"
        )
    slices = [found[z] for z in range(depth)]
    _mend(slices[0])
    for header in slices:
        if not header.get("SliceThickness"):  # it may be unknown in the source, but not in what is made from it
            header.SliceThickness = f"{mask.GetSpacing()[2]:.6g}"
    return slices


def _raise_from_groups(header: pydicom.Dataset) -> None:
    """Copy the geometry of an enhanced image with one frame from its functional groups to where others have it."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in list(header.get(groups) or [])[:1]:
            for macro in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
                for item in list(group.get(macro) or [])[:1]:
                    for element in item:
                        if element.tag not in header:
                            header.add(element)


def _mend(header: pydicom.Dataset) -> None:
    """Make valid what is repeated of a header: text as Unicode, dates as digits, empty what is missing or wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about character sets that pydicom does not know and treats as Latin-1
        for tag in [tag for tag in sorted(header.keys()) if tag.group in (0x0008, 0x0010, 0x0020)]:
            try:
                _mend_element(header, header[tag])
            except (AttributeError, LookupError, TypeError, ValueError):  # not of its type
                del header[tag]
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    if header.PatientSex not in SEXES:
        header.PatientSex = ""
    header.SpecificCharacterSet = UNICODE


def _mend_element(header: pydicom.Dataset, element: Any) -> None:
    from pydicom.valuerep import PersonName

    if element.VR == "SQ":  # none need be repeated
        if not all(_is_valid(part) for item in element.value for part in item.iterall()):
            del header[element.tag]
        return
    if element.VR == "PN" and element.VM == 1:
        element.value = PersonName(str(element.value))  # free of its old encoding
    if element.VR in ("DA", "TM") and not _is_valid(element):
        element.value = re.sub(r"[^0-9]" if element.VR == "DA" else r"[^0-9.]", "", str(element.value))
    if not _is_valid(element):
        element.value = None


def _is_valid(element: Any) -> bool:
    import pydicom
    from pydicom.valuerep import validate_value

    if element.VR not in TEXT or element.value is None:
        return True
    values = element.value if isinstance(element.value, list | pydicom.multival.MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, value, pydicom.config.RAISE)
            if element.VR in ("DA", "TM"):
                getattr(pydicom.valuerep, element.VR)(value)
    except (ValueError, TypeError):
        return False
    return True
