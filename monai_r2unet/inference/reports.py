"""Descriptions of a segmentation for reports and for the records of cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import SimpleITK as sitk

from monai_r2unet.bundle import Bundle
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.inference.segmenter import Segmenter
from monai_r2unet.metrics.densitometry import densitometry

__all__ = ["densities", "describe_result", "describe_segmenter"]


def describe_segmenter(segmenter: Segmenter) -> dict[str, Any]:
    """Bundle, weights and their SHA-256, device, engine, floating point type, batch size (``None``: the inferer's)."""
    return {
        "bundle": segmenter.bundle.name,
        "bundle_version": segmenter.bundle.metadata.get("version"),
        "weights": str(segmenter.weights),
        "weights_sha256": segmenter.weights_sha256,
        "device": str(segmenter.device),
        "engine": segmenter.engine,
        "precision": segmenter.precision,
        "batch_size": getattr(segmenter.inferer, "batch_size", None),
    }


def densities(image: sitk.Image, result: Segmentation, bundle: Bundle) -> dict[str, Any]:
    """Under ``"densitometry"``, the densities of each label, if the bundle's metadata ask for them."""
    if not bundle.metadata.get("densitometry") or image.GetDimension() != 3:
        return {}
    return {"densitometry": densitometry(image, result.mask, dict(enumerate(result.labels, start=1)))}


def describe_result(
    image: sitk.Image, result: Segmentation, bundle: Bundle, notes: Sequence[str], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Size, spacing in mm, foreground and labels in voxels and mL (``None`` for a picture), scale, warnings, seconds.

    Also the densities of each label, if the bundle asks for them.

    Args:
        image: The segmented image.
        result: The result.
        bundle: The bundle that made it.
        notes: Warnings from reading the image.
        seconds: Seconds of the other steps, such as reading.
    """
    return {
        "size": list(image.GetSize()),
        "spacing_mm": list(image.GetSpacing()),
        "voxels": result.voxels,
        "millilitres": result.millilitres,
        "labels": result.by_label,
        **densities(image, result, bundle),
        "scale": result.scale,
        "warnings": [*notes, *result.warnings],
        "seconds": {**seconds, **result.seconds},
    }
