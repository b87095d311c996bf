"""Photographs and other flat pictures as files: PNG, JPEG, TIFF, BMP, PPM and GIF, upright and in RGB or grey.

Pillow decodes them, because it handles rotation, palettes and transparency and refuses truncated files; ITK reads
TIFF files with measured values instead of 8-bit pictures.
"""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageOps, UnidentifiedImageError

from monai_r2unet.errors import InputError
from monai_r2unet.images.itk_paths import itk_path

__all__ = ["ENDINGS", "read_photograph"]

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".ppm.gz", ".pgm.gz")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")  # others, such as EPS, would start external programs
GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "YCbCr")
DEEP = ("I", "I;16", "I;16B")  # grey with 16 bits


def read_photograph(path: Path) -> sitk.Image:
    """Read one picture, completely or not at all, as every viewer shows it.

    A rotation noted in the file (EXIF) is applied, so a mask of the picture lies on the upright grid. Palettes are
    resolved. 16-bit colour is reduced to its upper 8 bits; colour profiles are not applied. A completely opaque alpha
    channel is dropped.

    Args:
        path: One of `ENDINGS`; the content decides the format, not the ending.

    Returns:
        2D, spacing 1: a vector of three uint8 for colour; a scalar for grey: uint8 (1-bit: 0 and 255), uint16, or the
        TIFF's own type.

    Raises:
        InputError: several pages, transparent pixels, or colours that are not RGB.
        OSError, SyntaxError, RuntimeError, ValueError: the file is damaged.
    """
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.decompress(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, which do not matter here
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.format == "PNG":
                    picture.verify()  # verifies the checksums, which decoding does not
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _check_pages(path, picture)
                if picture.format != "TIFF" or picture.mode in (*GREY, *COLOUR, "CMYK", "LAB"):
                    return _decoded(path, picture)
        except UnidentifiedImageError as error:
            if data[:2] not in (b"II", b"MM"):  # the first bytes of a TIFF
                known = ", ".join(FORMATS)
                raise InputError(
                    f"{path} is not what its name says, expected one of {known}: check the file"
                ) from error
    return _measured(path)


def _decoded(path: Path, picture: Image.Image) -> sitk.Image:
    picture.load()
    if picture.mode not in (*GREY, *COLOUR, *DEEP):
        raise InputError(f"{path} has {picture.mode} colours, expected RGB or grey: save it as RGB")
    grey = picture.mode in (*GREY, *DEEP)
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        if np.asarray(upright)[..., 3].min() < 255:
            raise InputError(f"{path} has transparent pixels, expected a photograph: save it without transparency")
    if picture.mode in DEEP:
        return sitk.GetImageFromArray(np.asarray(upright).astype(np.uint16))
    values = np.asarray(upright.convert("L" if grey else "RGB"))
    if picture.mode == "P" and (values == values[..., :1]).all():  # a palette of grey values
        values = values[..., 0]
    return sitk.GetImageFromArray(values, isVector=values.ndim == 3)


def _measured(path: Path) -> sitk.Image:
    """Read a TIFF with one value per pixel, of any type."""
    with itk_path(path) as name:
        image: sitk.Image = sitk.ReadImage(name, imageIO="TIFFImageIO")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"{path} has colours of type {image.GetPixelIDTypeAsString()}, expected RGB with 8 or 16 bits")
    if image.GetDimension() != 2:
        raise InputError(f"{path} holds {image.GetSize()[2]} pages, expected one picture: save each page by itself")
    image.SetSpacing((1.0, 1.0))  # ignores the print resolution
    return image


def _check_pages(path: Path, picture: Image.Image) -> None:
    pages = getattr(picture, "n_frames", 1)
    if pages > 1 and picture.format != "MPO":  # MPO: a phone's JPEG, with a preview behind the photograph
        raise InputError(f"{path} holds {pages} pages, expected one picture: save each page by itself")
