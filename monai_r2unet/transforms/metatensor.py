"""Conversion of images to MONAI's form and back, and the image reader for a bundle's transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import orientation_ras_lps
from monai.utils.enums import MetaKeys, SpaceKeys
from monai.utils.misc import ensure_tuple

from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import is_dicom
from monai_r2unet.images.grid import axes_in_mm
from monai_r2unet.images.reading import IMAGE_FORMATS, Pathlike, read_image

__all__ = ["SIGNED", "SimpleITKReader", "from_metatensor", "to_metatensor"]

# torch stores unsigned integers of more than 8 bits, but does not compute with them.
SIGNED = {"uint16": "int32", "uint32": "int64", "uint64": "float64"}


def to_metatensor(image: sitk.Image) -> MetaTensor:
    """Convert an image to MONAI's form: X, Y, Z (then channels, if any), RAS+ affine, the same pixel type.

    The metadata match MONAI's own readers; `original_channel_dim` is NaN, which means "no channel", or -1.
    """
    array, meta = _array_and_meta(image)
    return MetaTensor(torch.from_numpy(array), meta=meta)


def _array_and_meta(image: sitk.Image) -> tuple[np.ndarray, dict[str, Any]]:
    dimension = image.GetDimension()
    array = sitk.GetArrayFromImage(image)
    affine = np.eye(dimension + 1)
    affine[:-1, :-1] = axes_in_mm(image)
    affine[:-1, -1] = image.GetOrigin()
    affine = orientation_ras_lps(affine)
    meta: dict[str, Any] = {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(image.GetSize()),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if array.ndim == dimension else -1,
    }
    return np.swapaxes(array, 0, dimension - 1), meta


def from_metatensor(mask: MetaTensor | torch.Tensor | np.ndarray, like: sitk.Image) -> sitk.Image:
    """Convert an array X, Y, Z (no channel axis) to an image with exactly the geometry of `like`; bool becomes uint8.

    Raises:
        InputError: the array does not have the size of `like`.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.shape != like.GetSize():
        raise InputError(
            f"the array has shape {array.shape}, expected {like.GetSize()}, the size of its image: resample it"
        )
    image = sitk.GetImageFromArray(array.T.astype(np.uint8) if array.dtype == bool else array.T)
    image.CopyInformation(like)
    return image


class SimpleITKReader(ImageReader):
    """`read_image` as the `reader` of MONAI's `LoadImaged`: `monai_r2unet.transforms.metatensor.SimpleITKReader`.

    LoadImage tries other readers when `read` fails, so an image refused here, such as a mixed DICOM series, could come
    back from another reader as nonsense. The file is therefore read in `get_data`, whose errors reach the user.
    """

    def verify_suffix(self, filename: Sequence[Pathlike] | Pathlike) -> bool:
        """Whether every name has a known ending, is a folder or is DICOM."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(p.name.lower().endswith(IMAGE_FORMATS) or p.is_dir() or (p.is_file() and is_dicom(p)) for p in paths)

    def read(self, data: Sequence[Pathlike] | Pathlike, **kwargs: Any) -> tuple[Pathlike, ...]:
        """Accept the name of one image, which `get_data` will read."""
        return tuple(ensure_tuple(data))

    def get_data(self, img: Sequence[Pathlike]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the image: the array X, Y, Z, whose integers are signed or of 8 bits, and its metadata.

        Raises:
            InputError: as `read_image`, or several names instead of one.
        """
        if len(img) != 1:
            raise InputError(f"{len(img)} files were given as one image, expected one: load the channels one by one")
        array, meta = _array_and_meta(read_image(img[0]))
        return array.astype(SIGNED.get(array.dtype.name, array.dtype), copy=False), meta
