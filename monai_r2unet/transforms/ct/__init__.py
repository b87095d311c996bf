"""Random transforms of CT slices for training: findings that the training data lack.

Images are (1, X, Y), from 0 to 1 over the window of the bundle (-1000 to 400 HU); labels (1, X, Y) are 1 in the lung.
"""

from __future__ import annotations

from monai_r2unet.transforms.ct.body import (
    RandAerationd,
    RandConsolidationd,
    RandDiaphragmd,
    RandGasd,
    RandHeadd,
    RandPelvisd,
)
from monai_r2unet.transforms.ct.scan import (
    RandBlurd,
    RandCroppedScand,
    RandDenoised,
    RandFieldOfViewd,
    RandSurroundingsd,
)

__all__ = [
    "RandAerationd",
    "RandBlurd",
    "RandConsolidationd",
    "RandCroppedScand",
    "RandDenoised",
    "RandDiaphragmd",
    "RandFieldOfViewd",
    "RandGasd",
    "RandHeadd",
    "RandPelvisd",
    "RandSurroundingsd",
]
