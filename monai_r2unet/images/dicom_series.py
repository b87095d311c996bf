"""Read DICOM: one series of a folder, or one file, as a volume in HU with verified geometry."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.checks import warn_of_thickness
from monai_r2unet.images.dicom_files import (
    ARCHIVES,
    Chosen,
    contents,
    is_chosen,
    is_dicom,
    may_hold_image,
    series_files,
    unreadable,
)
from monai_r2unet.images.dicom_headers import Slice, read_header
from monai_r2unet.images.grid import orthonormal
from monai_r2unet.images.itk_paths import itk_path, itk_paths

__all__ = ["read_dicom_file", "read_dicom_folder"]

# Largest distance of a slice from its place on a regular grid, as a fraction of a voxel. Scanners round positions to
# 0.1 mm, up to a tenth of a thin slice; a missing slice displaces another one by at least half a step.
OFF_GRID = 0.2
SAME_ORIENTATION = 1e-3  # direction cosines
SAME_POSITION = 1e-3  # mm

BEGINNING = 1 << 16  # bytes that hold the UID of the series


def read_dicom_file(path: Path) -> sitk.Image:
    """Read one DICOM file as a volume of one slice, rescaled (HU for CT).

    Raises:
        InputError: the file is damaged, holds no image, or holds several frames.
    """
    if not may_hold_image(path):
        raise InputError(f"the DICOM file {path} holds no pixels (a plan, report or index): name a DICOM image")
    return _read_stack(path, [read_header(path)])


def read_dicom_folder(folder: Path, series: Chosen = None) -> sitk.Image:
    """Read the DICOM series of a folder as one volume, rescaled (HU for CT), slices ordered along their normal.

    Args:
        folder: Folder to read, without its subfolders; DICOM without pixels and known files of other kinds are ignored.
        series: The series to read, by its SeriesInstanceUID or its description; of several names the folder must hold
            one. None if the folder holds one series.

    Raises:
        InputError: no DICOM, several series and none chosen, slices that do not form one regular volume or state no
            pixel size, or a file that may be a slice but cannot be recognised.
    """
    headers = [read_header(path) for path in series_files(folder)]
    if not headers:
        what = "is empty" if not any(folder.iterdir()) else "holds no DICOM image (subfolders are not searched)"
        raise InputError(f"the folder {folder} {what}, expected one DICOM series: name the folder with the slices")
    found: dict[str, list[Slice]] = {}
    for header in headers:
        found.setdefault(header.series, []).append(header)
    listing = "; ".join(_describe(slices) for slices in found.values())
    if series is None and len(found) > 1:
        raise InputError(
            f"{folder} holds {len(found)} DICOM series, expected one, so move one to its own folder or choose one with "
            f"the argument `series`: {listing}"
        )
    chosen = [slices for uid, slices in found.items() if is_chosen(series, uid, slices[0].description)]
    if series is not None and len(chosen) != 1:
        named = series if isinstance(series, str) else ", ".join(series)
        many = f"{len(chosen)} DICOM series called" if chosen else "no DICOM series"
        raise InputError(f"{folder} holds {many} {named}, choose one of: {listing}")
    _check_subfolders(folder, chosen[0][0].series)
    archives = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(ARCHIVES))
    if archives:
        some = "them, if they hold" if len(archives) > 1 else "it, if it holds"
        warnings.warn(
            f"{', '.join(archives)} beside the slices of {folder} is left out: unpack {some} some", stacklevel=4
        )
    return _read_stack(folder, chosen[0])


def _check_subfolders(folder: Path, series: str) -> None:
    """Refuse a series with a part in a subfolder."""
    uid = re.compile(rb"(?<![0-9.])" + re.escape(series.encode("utf-8")) + rb"(?![0-9.])")
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        with contextlib.suppress(OSError):  # of what may not be opened, no more is known
            for path in subfolder.iterdir() if series else ():
                if not (path.is_file() and path.stat().st_size and is_dicom(path) and may_hold_image(path)):
                    continue
                if uid.search(contents(path)[:BEGINNING]) and _series_of(path) == series:
                    raise InputError(
                        f"{path} belongs to the series of {folder}, whose subfolders are not searched: put all slices "
                        "into one folder"
                    )


def _series_of(path: Path) -> str:
    """UID of the series of a DICOM file; empty if it cannot be read."""
    try:
        return read_header(path).series
    except InputError:
        return ""


def _describe(slices: Sequence[Slice]) -> str:
    first, count = slices[0], len(slices)
    return (
        f"{first.series} ({first.modality or 'no modality'}, '{first.description}', "
        f"{count} slice{'s' * (count > 1)} of {first.size[0]} x {first.size[1]})"
    )


def _read_stack(source: Path, slices: Sequence[Slice]) -> sitk.Image:
    """Check that the slices form one regular volume, read them in order, and set the geometry from their tags."""
    _check_alike(source, slices)
    step = slices[0].spacing[2]
    if len(slices) > 1:
        slices, step = _ordered(source, slices)
    thick = bool(np.isfinite(step))
    first = slices[0]
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    types = {s.pixel_type for s in slices}
    if len(types) > 1:  # as in PET, where every slice has its own rescale slope
        reader.SetOutputPixelType(sitk.sitkFloat32 if types & {sitk.sitkFloat32, sitk.sitkFloat64} else sitk.sitkInt32)
    try:
        with itk_paths([one.path for one in slices]) as names:
            reader.SetFileNames(names)
            image = reader.Execute()
    except RuntimeError as error:
        raise _first_unreadable(slices) or error from error
    image.SetSpacing((*first.spacing[:2], step if thick else 1.0))
    if not thick:
        warn_of_thickness(source, image)
    if np.isfinite([*first.orientation, *first.position]).all():
        row, column = first.orientation[:3], first.orientation[3:]
        # Rounded to a few digits in the file, the axes are not quite perpendicular, which not every format can store.
        image.SetDirection(orthonormal(np.column_stack((row, column, np.cross(row, column)))).ravel().tolist())
        image.SetOrigin(first.position.tolist())
    return _compact(image)


def _first_unreadable(slices: Sequence[Slice]) -> InputError | None:
    """The slice whose pixels GDCM cannot decode, which it does not name in a series."""
    for one in slices:
        try:
            with itk_path(one.path) as name:
                sitk.ReadImage(name, imageIO="GDCMImageIO")
        except RuntimeError:
            return unreadable(one.path)
    return None


def _check_alike(source: Path, slices: Sequence[Slice]) -> None:
    if any(len(s.size) > 2 and s.size[2] > 1 for s in slices):
        raise InputError(
            f"{source} holds a multi-frame DICOM image, expected one slice a file: convert it to NIfTI or to "
            "single-frame DICOM first"
        )
    sizes = Counter(f"{s.size[0]} x {s.size[1]}" for s in slices)
    if len(sizes) > 1:
        raise InputError(
            f"the slices of {source} have different sizes ({_counts(sizes)}), expected one: remove the slices that do "
            "not belong to the volume"
        )
    colours = Counter("in colour" if s.colour else "in grey" for s in slices)
    if len(colours) > 1:
        raise InputError(
            f"{source} mixes slices in colour and in grey under one SeriesInstanceUID ({_counts(colours)}), expected "
            "one kind: move the pictures that are no slices"
        )
    unscaled = [s.path.name for s in slices if s.rescale is None]
    if unscaled and {s.rescale for s in slices} - {None, (1.0, 0.0)}:
        raise InputError(
            f"{len(unscaled)} of the {len(slices)} slices of {source} lack RescaleSlope or RescaleIntercept, which the "
            f"others state (the first is {unscaled[0]}), so their values are not in one unit: export the series again"
        )
    for one in slices:
        if not all(0 < size < np.inf for size in one.spacing[:2]):
            other = f" ({one.other_spacing}, is another)" if one.other_spacing else ""
            raise InputError(
                f"the DICOM file {one.path} does not say how large its pixels are in the patient{other}, so nothing in "
                "it can be measured: export it again with PixelSpacing, or give its voxels to the Python API with "
                "their spacing"
            )
    if any(not np.allclose(s.spacing[:2], slices[0].spacing[:2], rtol=1e-3) for s in slices):
        spacings = Counter(f"{s.spacing[0]:g} x {s.spacing[1]:g} mm" for s in slices)
        raise InputError(
            f"the slices of {source} have different pixel spacings ({_counts(spacings)}), expected one: remove the "
            "slices that do not belong to the volume"
        )


def _ordered(source: Path, slices: Sequence[Slice]) -> tuple[list[Slice], float]:
    """Order the slices along their normal; return them and the distance between them in mm."""
    lost = [s.path.name for s in slices if not np.isfinite([*s.orientation, *s.position]).all()]
    if lost:
        raise InputError(
            f"{len(lost)} slices of {source} have no position or orientation (the first is {lost[0]}), so they cannot "
            "be stacked: export the series again with ImagePositionPatient and ImageOrientationPatient"
        )
    normal = _common_normal(source, slices)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.stack([s.position for s in slices])
    along = positions @ normal
    gaps = np.diff(along)
    if gaps.min() < SAME_POSITION:
        at = int(gaps.argmin())
        raise InputError(
            f"{slices[at].path.name} and {slices[at + 1].path.name} of {source} lie at the same position: a volume "
            "needs one slice at each, so remove copies and put other phases or reconstructions in their own folder"
        )
    sideways = positions - positions[0] - np.outer(along - along[0], normal)
    drift = float(np.linalg.norm(sideways, axis=1).max())
    if drift > OFF_GRID * min(slices[0].spacing[:2]):
        angle = np.degrees(np.arctan2(drift, along[-1] - along[0]))
        raise InputError(
            f"the slices of {source} shift sideways by up to {drift:.1f} mm (a gantry tilt of about {angle:.1f} "
            "degrees), expected slices stacked along their normal: resample the series to a grid without tilt first"
        )
    step = float((along[-1] - along[0]) / len(gaps))
    off = np.abs(along - along[0] - step * np.arange(len(slices))).max()
    if off > OFF_GRID * step:
        at = int(gaps.argmax())
        raise InputError(
            f"the slices of {source} are missing or unevenly spaced: the largest gap is {gaps[at]:g} mm, between "
            f"{slices[at].path.name} and {slices[at + 1].path.name}, expected {np.median(gaps):g} mm everywhere: add "
            "the missing slices or resample the series"
        )
    return slices, step


def _common_normal(source: Path, slices: Sequence[Slice]) -> np.ndarray:
    """Return the unit normal shared by all slices."""
    orientations: list[np.ndarray] = []
    counts: Counter[str] = Counter()
    for one in slices:
        same = [o for o in orientations if np.abs(o - one.orientation).max() < SAME_ORIENTATION]
        if not same:
            orientations.append(one.orientation)
        counts[_plane((same or orientations)[-1])] += 1
    if len(orientations) > 1:
        raise InputError(
            f"{source} mixes slices of different orientations under one SeriesInstanceUID ({_counts(counts)}), "
            "expected one: put the slices of one orientation in their own folder"
        )
    normal = np.cross(orientations[0][:3], orientations[0][3:])
    return np.asarray(normal / np.linalg.norm(normal))


def _plane(orientation: np.ndarray) -> str:
    normal = np.cross(orientation[:3], orientation[3:])
    name = ("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())]
    return f"{name} [{', '.join(f'{value:.3g}' for value in orientation)}]"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common())


def _compact(image: sitk.Image) -> sitk.Image:
    """Store the values as int16 if they fit, and never as float64: CT does not need more."""
    if image.GetPixelID() == sitk.sitkFloat64:
        image = sitk.Cast(image, sitk.sitkFloat32)
    if image.GetPixelID() in (sitk.sitkInt32, sitk.sitkUInt32):
        values = sitk.MinimumMaximumImageFilter()
        values.Execute(image)
        if values.GetMinimum() >= -(2**15) and values.GetMaximum() < 2**15:
            image = sitk.Cast(image, sitk.sitkInt16)
    return image
