"""The values of a mask as labels; what is not a mask, or would merge or lose labels, is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from monai_r2unet.errors import InputError

__all__ = ["checked_labels", "counts_of", "distinct_values", "grey_of", "shown_values"]

SOFT = 8  # more values than that are smoothed edges or compression, where they reach the type's maximum
MOST_SHOWN = 6
NEARLY_GREY = 16  # difference of the channels of an 8-bit colour, as in palettes and JPEG


def grey_of(values: npt.NDArray[Any], where: object) -> npt.NDArray[Any]:
    """One value per pixel of a mask whose last axis holds colours (grey as RGB or RGBA, as paint programs save it).

    Args:
        values: (..., C), C from 1 to 4; an alpha channel must be opaque.
        where: Source of the mask, for messages.

    Raises:
        InputError: colours that are not grey: a colour-coded mask.
    """
    if values.shape[-1] in (2, 4) and (values[..., -1] == values[..., -1].max()).all():
        values = values[..., :-1]
    if (values == values[..., :1]).all():
        return values[..., 0]
    colours = np.unique(values.reshape(-1, values.shape[-1]), axis=0)
    if np.ptp(colours.astype(np.int64), axis=1).max() > NEARLY_GREY:
        raise InputError(
            f"the mask {where} is colour-coded ({len(colours)} colours), expected one value per pixel: save it in "
            "grey, with the values 0, 1, 2, ..."
        )
    mean: npt.NDArray[Any] = values.mean(axis=-1).round().astype(values.dtype)
    return mean


def checked_labels(values: npt.NDArray[Any], labels: int, where: object) -> npt.NDArray[np.uint8]:
    """The values of a mask, uint8: 0 background, 1 to ``labels``.

    A single label may have any one value, such as 255: of two values the larger is foreground. Masks with smoothed
    edges, as from JPEG, are cut at half of the type's maximum.

    Args:
        values: A mask of any shape and type.
        labels: Number of labels expected.
        where: Source of the mask, for messages.

    Raises:
        InputError: fractions, negative values, more labels than expected, or values that are not 0, 1, 2, ...
    """
    if values.dtype.kind == "f" and not (values % 1 == 0).all():  # NaN is none of the numbers
        raise InputError(
            f"the mask {where} holds fractions, from {np.nanmin(values):g} to {np.nanmax(values):g}, expected whole "
            "numbers: apply a threshold to probabilities first"
        )
    found = distinct_values(values)
    if found.size and found[0] < 0:
        raise InputError(f"the mask {where} holds negative values ({shown_values(found)}), expected 0, 1, 2, ...")
    if labels > 1:
        if found.size and found[-1] > labels:
            raise InputError(
                f"the mask {where} holds the values {shown_values(found)}, expected 0 to {labels}, one for each label: "
                "renumber them, or name all labels"
            )
        return values.astype(np.uint8)
    if found.size <= 2:
        least = found[0] if found.size == 2 else 0
        return (values > least).astype(np.uint8)
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    if found.size <= SOFT or found[-1] <= full / 2:
        raise InputError(
            f"the mask {where} holds {found.size - 1} labels (the values {shown_values(found)}), but this bundle has "
            "one: keep the one that is meant, or make a bundle for several with monai-r2unet new"
        )
    return (values > full / 2).astype(np.uint8)


def distinct_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values, in ascending order: counted where they fit into a byte, which is faster than sorting."""
    if values.size == 0 or values.dtype.kind == "b" or not 0 <= values.min() <= values.max() <= 255:
        return np.unique(values)
    return np.flatnonzero(counts_of(values.astype(np.uint8, copy=False)))


def counts_of(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How often each of 256 values occurs. Part by part: numpy counts in copies of eight bytes a value."""
    parts = labels if labels.ndim > 1 else labels[None]
    counts: npt.NDArray[np.int64] = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    return counts


def shown_values(found: npt.NDArray[Any]) -> str:
    """The first few of the values, in ascending order, for messages."""
    few = ", ".join(f"{value:g}" for value in found[:MOST_SHOWN])
    return f"{few}, ... {found[-1]:g}" if found.size > MOST_SHOWN else few
