"""Where a mask agrees with its reference, and the colours that show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AGREEMENT", "agreement_areas", "agreement_colours"]

# Colour-blind safe (Okabe-Ito): true positive, false positive, false negative.
AGREEMENT = {"true positive": (0, 158, 115), "false positive": (213, 94, 0), "false negative": (86, 180, 233)}


def agreement_areas(
    prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], ...]:
    """The masks of ``AGREEMENT``, in its order."""
    return prediction & reference, prediction & ~reference, ~prediction & reference


def agreement_colours(
    image: npt.NDArray[Any], prediction: npt.NDArray[Any], reference: npt.NDArray[Any], opacity: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Colour the agreement between a mask and its reference.

    Args:
        image: Grey values from 0 to 1, (X, Y), or colours from 0 to 1, (X, Y, 3).
        prediction: Predicted mask, (X, Y).
        reference: Reference mask, (X, Y).
        opacity: Opacity of the colours, 0 to 1.

    Returns:
        RGB, (X, Y, 3), uint8: green true positives, orange false positives, blue false negatives.
    """
    painted = np.clip(image, 0, 1) * 255.0
    if painted.ndim == 2:
        painted = np.repeat(painted[..., None], 3, axis=-1)
    areas = agreement_areas(prediction.astype(bool), reference.astype(bool))
    for area, colour in zip(areas, AGREEMENT.values(), strict=True):
        painted[area] = (1 - opacity) * painted[area] + opacity * np.asarray(colour)
    colours: npt.NDArray[np.uint8] = painted.round().astype(np.uint8)
    return colours
