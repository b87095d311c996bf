"""The network's uncertainty about an image, by test-time augmentation."""

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
    """The network's uncertainty, by test-time augmentation with the image mirrored left to right.

    It is the entropy of the mean probability of the image and its mirror image, averaged over the voxels that are
    foreground in either, as a share of the largest possible entropy. For bundles whose labels have no side.

    Args:
        segmenter: Segmenter of a bundle.
        image: Image suitable for the bundle.

    Returns:
        From 0, if both agree with certainty, to 1, a coin toss; also 1 if neither finds anything, because the network
        should find something in a suitable image.

    Raises:
        InputError: if the bundle cannot process the image.
    """
    bundle = segmenter.bundle
    check_channels(image.GetNumberOfComponentsPerPixel(), bundle.image_format, bundle.name)
    check_dimension(image.GetDimension(), bundle.image_format, bundle.name)
    image, _ = check_finite(image, 0, fill=0.0)
    prepared = segmenter.prepare(to_metatensor(image))[None]
    inferer = copy.copy(segmenter.inferer)  # the segmenter's own remains unchanged
    inferer.mirror = False  # the mirror image is processed separately
    plain = torch.as_tensor(inferer(prepared, segmenter.network, probabilities=True))
    mirrored = torch.as_tensor(inferer(prepared.flip(2), segmenter.network, probabilities=True)).flip(2)
    if inferer.softmax:
        anywhere = (plain.argmax(1) > 0) | (mirrored.argmax(1) > 0)
        entropy = torch.special.entr((plain.double() + mirrored) / 2).sum(1)[anywhere]
        return float(entropy.mean()) / math.log(plain.shape[1]) if entropy.numel() else 1.0
    found = torch.maximum(plain, mirrored) >= segmenter.inferer.threshold
    unsure = (plain[found].double() + mirrored[found]) / 2
    if unsure.numel() == 0:
        return 1.0
    entropy = torch.special.entr(unsure) + torch.special.entr(1 - unsure)
    return float(entropy.mean()) / math.log(2)
