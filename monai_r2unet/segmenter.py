"""The address of the `Segmenter` for other programs; `monai_r2unet.inference.segmenter` has it."""

from monai_r2unet.inference.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]
