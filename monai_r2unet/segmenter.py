"""The public address of `Segmenter`, which is defined in `monai_r2unet.inference.segmenter`."""

from monai_r2unet.inference.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]
