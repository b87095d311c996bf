"""One image and its mask: read, brought onto one grid, and converted to int16 HU and uint8 {0, 1}."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.label_values import checked_labels
from monai_r2unet.images.reading import read_image

__all__ = ["ENDINGS", "finish_pair", "read_volume", "same_size", "split_ending"]

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tiff", ".tif")
UNKNOWN_EXTENT = 400.0  # mm; longer side of a picture
_PICTURES = (".png", ".tiff", ".tif")


def split_ending(path: Path) -> tuple[str, str]:
    """Split a file name into stem and image ending: ``a.b.nii.gz`` -> ``("a.b", ".nii.gz")``; ``""`` if unknown."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], ending
    return path.name, ""


def read_volume(path: Path) -> sitk.Image:
    """Read a scalar image as a 3D volume; a 2D image becomes a volume of one slice.

    PNG and TIFF hold at most a print resolution, no geometry: they are read as axial, rows from the patient's right to
    left, columns from front to back (LPS), and 400 mm wide, a usual field of view of a chest CT.

    Raises:
        InputError: if the file cannot be read completely, or is a colour image.
    """
    image = read_image(path)
    channels = image.GetNumberOfComponentsPerPixel()
    if channels != 1:
        raise InputError(f"{path} has {channels} channels instead of one; save it as greyscale")
    if split_ending(path)[1] in _PICTURES:
        image.SetSpacing([UNKNOWN_EXTENT / max(image.GetSize())] * image.GetDimension())
    return sitk.JoinSeries(image) if image.GetDimension() == 2 else image


def finish_pair(
    image: sitk.Image,
    mask: sitk.Image,
    name: str,
    slices: int | None = None,
    rescale_intercept: float | None = None,
) -> tuple[sitk.Image, sitk.Image]:
    """Convert an image and its mask to the form that is written.

    Args:
        image: CT in HU, or in HU minus ``rescale_intercept``; any orientation.
        mask: Mask of one label on the image's grid; its axes may be stored in another order or direction.
        name: Name of the case, for messages.
        slices: Number of axial slices to keep, evenly spaced over the volume; None keeps all. The volume keeps its
            extent, so the spacing in z grows; a slice lies at most half an old spacing from its place on the new grid.
        rescale_intercept: Offset added to the image's values to get HU.

    Returns:
        The image as int16 HU (rounded, clipped to the range of int16) and the mask as uint8 {0, 1}, both (X, Y, Z) with
        the axial axis last, on one grid; nothing is resampled, and only the geometry is kept of the metadata.

    Raises:
        InputError: if the two do not lie on the same grid, the mask has several labels, or the values cannot be HU.
    """
    # An exact change of axis order and direction, without interpolation: some tools store the mask of an LPS image as
    # RAS.
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    mask = sitk.DICOMOrient(mask, code)
    _check_same_grid(image, mask, name)
    mask.CopyInformation(image)

    image, mask = _axial_last(image), _axial_last(mask)
    hu = _to_hu(sitk.GetArrayFromImage(image), rescale_intercept, name)
    foreground = checked_labels(sitk.GetArrayFromImage(mask), 1, f"of {name}")
    if foreground.any() and hu.min() >= 0:
        raise InputError(
            f"the image of {name} has no value below 0, so it cannot be HU (air is -1000): convert it",
            remedy="add an offset to its values",
            option="rescale_intercept",
            value=-1024,
        )
    depth = image.GetSize()[2]
    kept = min(slices or depth, depth)
    rows = ((np.arange(kept) + 0.5) * depth / kept).astype(int)
    first = (0.0, 0.0, 0.5 * depth / kept - 0.5)
    spacing = (*image.GetSpacing()[:2], image.GetSpacing()[2] * depth / kept)
    result = []
    for array in (hu, foreground):
        volume = sitk.GetImageFromArray(array[rows])
        volume.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
        volume.SetSpacing(spacing)
        volume.SetDirection(image.GetDirection())
        result.append(volume)
    return result[0], result[1]


def same_size(image: Path, label: Path) -> bool:
    """Whether two files have the same number of voxels along each axis, according to their headers."""
    sizes = []
    for path in (image, label):
        with itk_path(path) as name:
            reader = sitk.ImageFileReader()
            reader.SetFileName(name)
            try:
                reader.ReadImageInformation()
            except RuntimeError:
                return False
        sizes.append(reader.GetSize())
    return bool(sizes[0] == sizes[1])


def _check_same_grid(image: sitk.Image, mask: sitk.Image, name: str) -> None:
    """Raise unless the sizes match and the corners lie within a tenth of a voxel (headers are rounded differently)."""
    if image.GetSize() != mask.GetSize():
        raise InputError(
            f"image and mask of {name} have different sizes, {image.GetSize()} and {mask.GetSize()}; "
            "the mask must lie on the image's own grid"
        )
    size = np.array(image.GetSize(), dtype=float)
    corners = [np.zeros(3), *np.diag(size), size]
    distance = max(
        np.linalg.norm(
            np.subtract(
                image.TransformContinuousIndexToPhysicalPoint(tuple(corner - 0.5)),
                mask.TransformContinuousIndexToPhysicalPoint(tuple(corner - 0.5)),
            )
        )
        for corner in corners
    )
    if distance > 0.1 * min(image.GetSpacing()):
        raise InputError(
            f"image and mask of {name} have the same size but differ in position by up to {distance:.4g} mm; "
            "the mask must have the image's origin, spacing and direction"
        )


def _axial_last(image: sitk.Image) -> sitk.Image:
    """Move the axis nearest to head-foot to the end; the other two keep their order."""
    towards_head = np.abs(np.reshape(image.GetDirection(), (3, 3))[2])
    axial = int(towards_head.argmax())
    return sitk.PermuteAxes(image, [axis for axis in range(3) if axis != axial] + [axial]) if axial != 2 else image


def _to_hu(array: np.ndarray, rescale_intercept: float | None, name: str) -> np.ndarray:
    if rescale_intercept is not None:
        array = array.astype(np.float64) + rescale_intercept
    if array.dtype == np.int16:
        return array
    if not np.isfinite(array).all():
        raise InputError(f"the image of {name} has values that are not numbers (NaN or infinite); replace them first")
    limits = np.iinfo(np.int16)
    hu: np.ndarray = np.rint(array).clip(limits.min, limits.max).astype(np.int16)
    return hu
