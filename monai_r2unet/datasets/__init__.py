"""Public data sets in the form that bundles read: a folder with images, labels and a ``datalist.json``."""

from monai_r2unet.datasets.datalist import load_datalist
from monai_r2unet.datasets.patch_dataset import PatchDataset, PictureDataset
from monai_r2unet.datasets.slice_dataset import SliceDataset

__all__ = ["PatchDataset", "PictureDataset", "SliceDataset", "load_datalist"]
