"""Single slices or photographs of a validation, as they are shown in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine

from monai_r2unet.metrics.labels import confusion_table, counts_of, decide, mean_over_labels, reference_of
from monai_r2unet.metrics.measures import measures_of

__all__ = ["collect_slices", "displayable", "slice_name"]


def collect_slices(validator: Engine, slices: list[dict[str, Any]]) -> None:
    """Add the slices of a validation's last batch that have foreground in mask or reference."""
    # With postprocessing the engine decollates its batch: a list of slices, like its output.
    for item, drawn in zip(validator.state.output, validator.state.batch, strict=True):
        if "case" not in drawn:  # patches are too small to be shown
            continue
        pred = torch.as_tensor(item["pred"])
        prediction, label = decide(pred, 0.5), reference_of(torch.as_tensor(item["label"]), pred)
        if "fov" in drawn:
            prediction, label = (
                mask * (torch.as_tensor(drawn["fov"]) > 0).to(mask.device) for mask in (prediction, label)
            )
        if not (prediction.any() or label.any()):
            continue
        table = confusion_table(prediction, label, max(1, len(pred) - 1))
        each = [measures_of(counts_of(table, value), None) for value in range(1, len(table))]
        slices.append(
            {
                "image": displayable(torch.as_tensor(item["image"])),
                "label": label[0].cpu().numpy(),
                "prediction": prediction[0].cpu().numpy(),
                "dice": mean_over_labels(each, table)["dice"],
                "name": slice_name(drawn),
            }
        )


def slice_name(drawn: Mapping[str, Any]) -> str:
    """Name of an item of a bundle's data set: its case and, in a volume, its slice."""
    return f"{drawn['case']}, slice {int(drawn['slice'])}" if "slice" in drawn else str(drawn["case"])


def displayable(image: torch.Tensor) -> npt.NDArray[np.float32]:
    """Convert a slice (1, X, Y), already from 0 to 1, or a standardised photograph (3, X, Y) to (X, Y) or (X, Y, 3)."""
    if len(image) == 1:
        return np.asarray(image[0].cpu())
    image = image.movedim(0, -1).cpu()
    low, high = image.amin((0, 1)), image.amax((0, 1))
    return np.asarray((image - low) / (high - low).clamp_min(1e-6))
