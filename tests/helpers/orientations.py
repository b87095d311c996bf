"""One volume, stored in every way there is: for the tests of geometry."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.images.grid import same_grid
from tests.helpers.arrays import values

# Along which direction an axis of the stored volume runs: towards left, back and head, or away from them.
LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
ORDERS = sorted(
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)
)
UPRIGHT = (0.0, 0.0, 0.0)
STEEPEST = 30.0  # degrees


def stored(image: sitk.Image, order: str, rotation: Sequence[float] = UPRIGHT) -> sitk.Image:
    """A volume stored LPS as it looks stored in another order and, with its patient, rotated, see `rotation_matrix`."""
    axes, signs = (list(part) for part in zip(*(LETTERS[letter] for letter in order), strict=True))
    flips = tuple(slice(None, None, sign) for sign in signs)
    array = values(image).transpose(2, 1, 0).transpose(axes)[flips].transpose(2, 1, 0)
    corner = [0, 0, 0]
    for axis, sign in zip(axes, signs, strict=True):
        corner[axis] = 0 if sign > 0 else image.GetSize()[axis] - 1
    turn = rotation_matrix(rotation)
    result = sitk.GetImageFromArray(np.ascontiguousarray(array))
    result.SetSpacing([image.GetSpacing()[axis] for axis in axes])
    result.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))[:, axes] * signs).ravel().tolist())
    result.SetOrigin((turn @ image.TransformIndexToPhysicalPoint(corner)).tolist())
    return result


def rotation_matrix(rotation: Sequence[float]) -> np.ndarray:
    """The rotation about the axis ``rotation`` (L, P, S), by its length in degrees."""
    degrees = float(np.linalg.norm(rotation))
    if degrees < 1e-6:
        return np.eye(3)
    turn = sitk.VersorTransform([float(part) for part in rotation], float(np.radians(degrees)))
    return np.reshape(turn.GetMatrix(), (3, 3))


def some_rotation(seed: str) -> tuple[float, ...]:
    """A rotation by 5 to 30 degrees about any axis, another one for each seed."""
    rng = np.random.default_rng(list(seed.encode()))
    axis = rng.normal(size=3)
    return tuple(axis / np.linalg.norm(axis) * rng.uniform(5, STEEPEST))


def tilt(image: sitk.Image) -> float:
    """Degrees between the slices of a volume that are nearest to axial and axial ones."""
    return float(np.degrees(np.arccos(np.abs(image.GetDirection()[6:]).max().clip(0, 1))))


def assert_mask(mask: sitk.Image, expected: sitk.Image, grid: sitk.Image, exact: bool = True) -> None:
    """The mask has the voxels of one image and the grid of another.

    What is not exact went through NIfTI, once or twice: its header has float32 where the others have float64.
    """
    np.testing.assert_array_equal(values(mask), values(expected))
    assert mask.GetSize() == grid.GetSize()
    rounding = 1e-13 if exact else 2.5e-7
    np.testing.assert_allclose(mask.GetSpacing(), grid.GetSpacing(), rtol=rounding)
    np.testing.assert_allclose(mask.GetOrigin(), grid.GetOrigin(), rtol=rounding, atol=1e-9)
    np.testing.assert_allclose(mask.GetDirection(), grid.GetDirection(), rtol=0, atol=rounding)
    assert same_grid(mask, grid)


def write_series(folder: Path, image: sitk.Image, digits: int = 12) -> Path:
    """A CT as a DICOM series, one file a slice, under names that say nothing of their order.

    Args:
        folder: to make.
        image: int16, right-handed, as every stack of DICOM slices is.
        digits: of the direction cosines.
    """
    import pydicom

    folder.mkdir()
    array = (values(image) + 1024).astype("<u2")
    direction = np.reshape(image.GetDirection(), (3, 3))
    assert np.linalg.det(direction) > 0
    for index, pixels in enumerate(array):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.826.0.1.3.{index + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.826.0.1.1", "1.2.826.0.1.2", "CT"
        data.ImageOrientationPatient = np.round(direction[:, :2].T.ravel(), digits).tolist()
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        data.ImagePositionPatient = [pydicom.valuerep.DSfloat(part, auto_format=True) for part in position]
        data.PixelSpacing = [image.GetSpacing()[1], image.GetSpacing()[0]]  # of rows, then of columns
        data.SliceThickness = image.GetSpacing()[2]
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = pixels.shape
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = pixels.tobytes()
        data.save_as(folder / uuid.uuid4().hex, enforce_file_format=True)
    return folder
