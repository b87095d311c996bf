"""The public address of `Segmenter` and `Segmentation`."""

from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.inference.segmenter import Segmenter

__all__ = ["Segmentation", "Segmenter"]
