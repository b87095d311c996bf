"""How sure the network is of an image, by test-time augmentation."""

from __future__ import annotations

import copy
import math

import SimpleITK as sitk
import torch

from monai_r2unet import Segmenter
from monai_r2unet.inference.checks import check_channels, check_dimension, check_finite
from monai_r2unet.transforms.metatensor import to_metatensor

__all__ = ["uncertainty"]


def uncertainty(segmenter: Segmenter, image: sitk.Image) -> float:
    """How unsure the network is, by test-time augmentation with the image mirrored left to right.

    That is the entropy, in bits, of the probability that the image and its mirror image give on average, averaged over
    the voxels that either calls foreground.

    Args:
        segmenter: of a bundle with one label.
        image: that the bundle can work on.

    Returns:
        From 0, where both are sure of the same, to 1, where they are as good as dice; 1 too where neither finds
        anything, because the network should find something in an image that was meant for it.

    Raises:
        InputError: if the bundle cannot work on the image.
    """
    bundle = segmenter.bundle
    check_channels(image.GetNumberOfComponentsPerPixel(), bundle.image_format, bundle.name)
    check_dimension(image.GetDimension(), bundle.image_format, bundle.name)
    image, _ = check_finite(image, 0, fill=0.0)
    prepared = segmenter.prepare(to_metatensor(image))[None]
    inferer = copy.copy(segmenter.inferer)  # the segmenter's own stays as it is
    inferer.mirror = False  # the mirror image is asked apart
    plain = torch.as_tensor(inferer(prepared, segmenter.network, probabilities=True))
    mirrored = torch.as_tensor(inferer(prepared.flip(2), segmenter.network, probabilities=True)).flip(2)
    found = torch.maximum(plain, mirrored) >= segmenter.inferer.threshold
    unsure = (plain[found].double() + mirrored[found]) / 2
    if unsure.numel() == 0:
        return 1.0
    entropy = torch.special.entr(unsure) + torch.special.entr(1 - unsure)
    return float(entropy.mean()) / math.log(2)
