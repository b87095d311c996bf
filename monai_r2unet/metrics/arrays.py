"""Masks and probabilities of any library and shape, converted to checked tensors."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from monai_r2unet.errors import InputError

__all__ = ["Array", "check_probabilities", "check_shapes", "flat_scores", "foreground_of", "labels_of", "ratio"]

Array: TypeAlias = "NDArray[Any] | torch.Tensor"


def ratio(numerator: float, denominator: float) -> float:
    """The quotient; NaN if the denominator is 0."""
    return numerator / denominator if denominator else math.nan


def check_shapes(prediction: Array, reference: Array, valid: Array | None) -> None:
    """Raise InputError unless all have the same shape."""
    for values, what in ((reference, "the reference"), (valid, "the mask of valid pixels")):
        if values is not None and tuple(values.shape) != tuple(prediction.shape):
            raise InputError(
                f"The prediction has shape {tuple(prediction.shape)} but {what} has shape {tuple(values.shape)}: "
                "bring both onto the same grid first."
            )


def check_probabilities(scores: torch.Tensor) -> None:
    """Raise InputError unless all values are from 0 to 1."""
    if scores.numel() == 0:
        return
    low, high = (float(value) for value in scores.aminmax())
    # Interpolating probabilities in single precision can exceed [0, 1] by a rounding error; NaN fails the comparison.
    if math.isnan(low):
        raise InputError("The probabilities hold NaN: the network has diverged, so train it again with a lower lr.")
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InputError(f"Probabilities range from {low:g} to {high:g}, expected 0 to 1: apply a sigmoid to logits.")


def foreground_of(values: Array, what: str) -> torch.Tensor:
    """Convert a mask to bool, true where it is > 0; InputError if it holds fractions."""
    if isinstance(values, torch.Tensor):
        values = values.detach().as_subclass(torch.Tensor)  # a MetaTensor would carry its metadata along
    if "float" in str(values.dtype) and bool((values % 1 != 0).any()):
        raise InputError(f"A mask was expected but {what} holds fractions: apply a threshold to probabilities first.")
    foreground = values > 0
    # NumPy does the comparison: torch cannot convert every array (byte order, uint16, negative strides).
    return foreground if isinstance(foreground, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(foreground))


def labels_of(values: Array, what: str, labels: int) -> torch.Tensor:
    """Convert a mask to int64; InputError if it holds anything but 0 to ``labels``."""
    if isinstance(values, torch.Tensor):
        mask = values.detach().as_subclass(torch.Tensor)
    else:
        array = np.asarray(values)
        whole = array.dtype.kind in "iub" or bool((array % 1 == 0).all())
        mask = torch.from_numpy(np.require(array, np.int64 if whole else np.float64, ["C", "W"]))
    if mask.is_floating_point() and bool((mask % 1 != 0).any()):
        raise InputError(f"A mask was expected but {what} holds fractions: apply a threshold to probabilities first.")
    if mask.numel() and not 0 <= int(mask.min()) <= int(mask.max()) <= labels:
        raise InputError(
            f"{what[0].upper()}{what[1:]} holds values from {int(mask.min())} to {int(mask.max())}, expected 0 to "
            f"{labels}, the number of labels: give each label its value."
        )
    return mask.long()


def flat_scores(
    probabilities: Array, reference: Array, valid: Array | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Probabilities, reference and valid pixels as flat tensors on one device."""
    check_shapes(probabilities, reference, valid)
    if isinstance(probabilities, torch.Tensor):
        scores = probabilities.detach().as_subclass(torch.Tensor).flatten()
        scores = scores if scores.dtype == torch.float64 else scores.float()
    else:
        dtype = np.float64 if np.asarray(probabilities).dtype == np.float64 else np.float32
        scores = torch.from_numpy(np.require(probabilities, dtype, ["C", "W"])).flatten()
    positive = foreground_of(reference, "the reference").flatten().to(scores.device)
    counted = None if valid is None else foreground_of(valid, "the mask of valid pixels").flatten().to(scores.device)
    return scores, positive, counted
