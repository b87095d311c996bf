"""Public data sets in the form that bundles read: a folder with images, labels and a ``datalist.json``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_r2unet.datasets.datalist import load_datalist
    from monai_r2unet.datasets.patch_dataset import PatchDataset, PictureDataset
    from monai_r2unet.datasets.slice_dataset import SliceDataset

__all__ = ["DATASETS", "PatchDataset", "PictureDataset", "SliceDataset", "load_datalist"]

DATASETS = {
    "lung": "chest CT: LUNA16, LCTSC, Kaggle, or your own",
    "drive": "DRIVE, retinal vessels",
    "stare": "STARE, retinal vessels",
    "chase_db1": "CHASE_DB1, retinal vessels",
    "skin": "ISIC 2017, skin lesions",
}
"""Data sets by the name of their bundle, which is also that of the module here whose ``prepare`` converts them."""

_HOMES = {
    **dict.fromkeys(("PatchDataset", "PictureDataset"), "monai_r2unet.datasets.patch_dataset"),
    "SliceDataset": "monai_r2unet.datasets.slice_dataset",
    "load_datalist": "monai_r2unet.datasets.datalist",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: what only lists the data sets needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
