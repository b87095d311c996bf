"""Where a mask agrees with its reference, and the colours that show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AGREEMENT", "agreement_areas", "agreement_colours"]

# Colour-blind safe (Okabe-Ito): true positive, false positive, false negative.
AGREEMENT = {"true positive": (0, 158, 115), "false positive": (213, 94, 0), "false negative": (86, 180, 233)}


def agreement_areas(prediction: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], ...]:
    """The masks of ``AGREEMENT``, in its order, of two masks that are bool or hold the values of labels.

    Where both hold a label, but not the same, the prediction is a false positive.
    """
    same = prediction == reference
    return same & (reference > 0), ~same & (prediction > 0), (prediction == 0) & (reference > 0)


def agreement_colours(
    image: npt.NDArray[Any], prediction: npt.NDArray[Any], reference: npt.NDArray[Any], opacity: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Colour the agreement between a mask and its reference.

    Args:
        image: Grey values from 0 to 1, (X, Y), or colours from 0 to 1, (X, Y, 3).
        prediction: Predicted mask, (X, Y), bool or the values of labels.
        reference: Reference mask, (X, Y), with the same values.
        opacity: Opacity of the colours, 0 to 1.

    Returns:
        RGB, (X, Y, 3), uint8: green true positives, orange false positives, blue false negatives.
    """
    painted = np.clip(image, 0, 1) * 255.0
    if painted.ndim == 2:
        painted = np.repeat(painted[..., None], 3, axis=-1)
    areas = agreement_areas(prediction, reference)
    for area, colour in zip(areas, AGREEMENT.values(), strict=True):
        painted[area] = (1 - opacity) * painted[area] + opacity * np.asarray(colour)
    colours: npt.NDArray[np.uint8] = painted.round().astype(np.uint8)
    return colours
