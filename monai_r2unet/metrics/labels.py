"""The measures of several labels that do not overlap: each label by itself, their mean, and the confusions.

All come from one confusion table, rows the reference, columns the prediction, background first. The counts of a label
treat every other value as background. The mean over labels leaves out labels that occur in neither mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from monai_r2unet.errors import InputError
from monai_r2unet.metrics.arrays import Array, check_shapes, foreground_of, labels_of
from monai_r2unet.metrics.measures import MEASURES, CaseMeasures, ConfusionCounts, evaluate_case, summarize

__all__ = [
    "confusion_table",
    "counts_of",
    "decide",
    "evaluate_labels",
    "mean_over_labels",
    "reference_of",
    "summarize_labels",
]


def decide(probabilities: torch.Tensor, threshold: float) -> torch.Tensor:
    """The mask (1, ...) of probabilities (K, ...), uint8: of one channel from ``threshold`` on, else the largest's."""
    if len(probabilities) > 1:
        return probabilities.argmax(0, keepdim=True).to(torch.uint8)
    return (probabilities >= threshold).to(torch.uint8)


def reference_of(label: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """The reference of probabilities (K, ...), uint8: the values of several labels, or where a single one is > 0."""
    return (label if len(probabilities) > 1 else label > 0).to(torch.uint8)


def confusion_table(prediction: Array, reference: Array, labels: int, valid: Array | None = None) -> torch.Tensor:
    """Count pixels by reference (rows) and prediction (columns), (labels + 1, labels + 1), int64.

    Args:
        prediction: Mask of any shape with the values 0 to ``labels``.
        reference: Mask of the same shape.
        labels: Number of labels.
        valid: Mask of the same shape; only pixels where > 0 count.

    Raises:
        InputError: shapes differ, or a mask holds fractions or other values.
    """
    check_shapes(prediction, reference, valid)
    columns, rows = labels_of(prediction, "the prediction", labels), labels_of(reference, "the reference", labels)
    pairs = rows.to(columns.device) * (labels + 1) + columns
    if valid is not None:
        pairs = pairs[foreground_of(valid, "the mask of valid pixels").to(pairs.device)]
    counts = torch.bincount(pairs.flatten(), minlength=(labels + 1) ** 2)
    return counts.view(labels + 1, labels + 1).cpu()


def counts_of(table: torch.Tensor, value: int) -> ConfusionCounts:
    """The counts of one label in a confusion table."""
    tp = int(table[value, value])
    fn, fp = int(table[value].sum()) - tp, int(table[:, value].sum()) - tp
    return ConfusionCounts(tp=tp, fp=fp, tn=int(table.sum()) - tp - fp - fn, fn=fn)


def evaluate_labels(
    name: str,
    prediction: Array,
    reference: Array,
    labels: Sequence[str],
    *,
    probabilities: Array | None = None,
    valid: Array | None = None,
    exact: bool = False,
) -> tuple[list[CaseMeasures], torch.Tensor]:
    """Compare one image's mask with its reference: the measures of each label, and the confusion table.

    Args:
        name: The case's name in the results.
        prediction: Mask of any shape, values 0 to the number of labels.
        reference: Mask of the same shape.
        labels: Names of the labels with the values 1, 2, ...
        probabilities: Probabilities of background and labels, (labels + 1, ...); without them there is no ROC AUC.
        valid: Mask of the same shape; only pixels where > 0 count.
        exact: Keep every probability for the exact ROC AUC instead of a histogram.

    Raises:
        InputError: as `confusion_table` and `evaluate_case`.
    """
    table = confusion_table(prediction, reference, len(labels), valid)
    cases = []
    for value in range(1, len(labels) + 1):
        if probabilities is None:
            cases.append(CaseMeasures(name, counts_of(table, value)))
            continue
        of_one = probabilities[value].reshape(tuple(reference.shape))
        masks = prediction == value, reference == value
        cases.append(evaluate_case(name, *masks, probabilities=of_one, valid=valid, exact=exact))
    return cases, table


def mean_over_labels(measures: Sequence[Mapping[str, float]], table: torch.Tensor) -> dict[str, float]:
    """The mean of each measure over the labels that the table holds; NaN if none defines it."""
    there = [int(table[v].sum() + table[:, v].sum()) > 0 for v in range(1, len(table))]
    kept = [row for row, held in zip(measures, there, strict=True) if held]
    return {name: _mean([row[name] for row in kept]) for name in MEASURES}


def summarize_labels(
    cases: Sequence[Sequence[CaseMeasures]], tables: Sequence[torch.Tensor], labels: Sequence[str]
) -> dict[str, Any]:
    """The measures of a test set with several labels, ready for JSON: undefined measures are None.

    Args:
        cases: The measures of each label, for each image.
        tables: The confusion table of each image.
        labels: Names of the labels.

    Returns:
        ``labels``: the summary of each label, as `summarize` gives it. ``mean``: the mean over labels, ``pooled`` and
        ``per_image``. ``confusion``: ``labels`` with the background first, and ``pixels``, rows the reference, columns
        the prediction.

    Raises:
        InputError: there are no cases.
    """
    if not cases:
        raise InputError("There is nothing to summarize: got no cases, expected at least one image with its reference.")
    by_label = {name: summarize([case[index] for case in cases]) for index, name in enumerate(labels)}
    table = torch.stack(list(tables)).sum(0)
    there = [name for value, name in enumerate(labels, 1) if int(table[value].sum() + table[:, value].sum())]
    mean = {
        "pooled": {name: _mean_of(by_label[one]["pooled"][name] for one in there) for name in MEASURES},
        "per_image": {name: _mean_of(by_label[one]["per_image"]["mean"][name] for one in there) for name in MEASURES},
    }
    return {
        "labels": by_label,
        "mean": mean,
        "confusion": {"labels": ["background", *labels], "pixels": table.tolist()},
    }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _mean_of(values: Any) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
