"""The pixels of an image, to compare."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import SimpleITK as sitk
from PIL import Image


def values(image: sitk.Image) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(image))


def pixels(path: str | Path | IO[bytes]) -> np.ndarray:
    """Of a picture, rows first; of one with a palette its grey values."""
    picture = Image.open(path)
    return np.asarray(picture.convert("L") if picture.mode == "P" else picture)
