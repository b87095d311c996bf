"""The measures of the R2U-Net paper (Section IV.B), each computed in one place, from confusion counts.

Two aggregations, always named: *pooled* (one confusion table over the pixels of all images) and *per image* (mean and
standard deviation of each image's measure). F1 and Dice of one confusion table are the same number,
2TP / (2TP + FP + FN); the two columns of the paper can only differ because they are aggregated differently.
docs/reference/metrics.md gives the definitions and the conventions for empty masks.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

from monai_r2unet.errors import InputError
from monai_r2unet.metrics.arrays import Array, check_shapes, foreground_of, ratio
from monai_r2unet.metrics.roc import RocHistogram, RocScores

__all__ = [
    "MEASURES",
    "CaseMeasures",
    "ConfusionCounts",
    "confusion",
    "evaluate_case",
    "measures_of",
    "pooled_roc",
    "summarize",
]

MEASURES = ("accuracy", "sensitivity", "specificity", "precision", "balanced_accuracy", "f1", "dice", "jaccard", "auc")
"""The names of the measures, in the order in which they are reported."""


@dataclass(frozen=True)
class ConfusionCounts:
    """Pixel counts by prediction and reference; counts of several images add up with ``+``.

    An undefined measure is NaN: every measure without pixels, sensitivity without reference foreground, specificity
    without reference background, precision without predicted foreground. Dice, F1 and Jaccard of two empty masks are 1:
    they agree.
    """

    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0

    def __add__(self, other: ConfusionCounts) -> ConfusionCounts:
        """The counts of both together."""
        return ConfusionCounts(self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn)

    @property
    def pixels(self) -> int:
        """The number of pixels counted."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all, the paper's Eq. (4)."""
        return ratio(self.tp + self.tn, self.pixels)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), the paper's Eq. (5); also called recall."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP), the paper's Eq. (6)."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def balanced_accuracy(self) -> float:
        """(sensitivity + specificity) / 2: the ROC AUC of a mask instead of probabilities."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def dice(self) -> float:
        """2TP / (2TP + FP + FN), the paper's Eq. (7)."""
        return self._overlap(2 * self.tp)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and sensitivity: the same number as Dice."""
        return self.dice

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), the paper's Eq. (8), although its JSC columns hold something else."""
        return self._overlap(self.tp)

    def _overlap(self, common: int) -> float:
        different = self.fp + self.fn
        if self.pixels > 0 and common + different == 0:
            return 1.0  # both masks are empty
        return ratio(common, common + different)


def confusion(prediction: Array, reference: Array, valid: Array | None = None) -> ConfusionCounts:
    """Count the pixels of two masks by class.

    Args:
        prediction: Mask of any shape, foreground where > 0 (bool, 0/1 or 0/255).
        reference: Mask of the same shape.
        valid: Mask of the same shape, such as a retina's field of view; only pixels where > 0 count.

    Raises:
        InputError: shapes differ, or a mask holds fractions (probabilities without a threshold).
    """
    check_shapes(prediction, reference, valid)
    predicted = foreground_of(prediction, "the prediction")
    positive = foreground_of(reference, "the reference").to(predicted.device)
    pixels = predicted.numel()
    if valid is not None:
        counted = foreground_of(valid, "the mask of valid pixels").to(predicted.device)
        predicted, positive = predicted & counted, positive & counted
        pixels = int(counted.count_nonzero())
    sums = torch.stack([predicted.count_nonzero(), positive.count_nonzero(), (predicted & positive).count_nonzero()])
    n_predicted, n_positive, tp = sums.tolist()
    return ConfusionCounts(tp=tp, fp=n_predicted - tp, tn=pixels - n_predicted - n_positive + tp, fn=n_positive - tp)


@dataclass(frozen=True)
class CaseMeasures:
    """One image's input to `summarize`: its name, counts and, if there were probabilities, their histogram."""

    name: str
    counts: ConfusionCounts
    roc: RocHistogram | RocScores | None = None

    @property
    def measures(self) -> dict[str, float]:
        """All `MEASURES`; NaN if undefined, ``auc`` also without probabilities."""
        return measures_of(self.counts, self.roc)


def evaluate_case(
    name: str,
    prediction: Array,
    reference: Array,
    *,
    probabilities: Array | None = None,
    valid: Array | None = None,
    exact: bool = False,
) -> CaseMeasures:
    """Compare one image's mask with its reference.

    Args:
        name: The case's name in the results.
        prediction: Mask of any shape, foreground where > 0, after the threshold and all postprocessing.
        reference: Mask of the same shape.
        probabilities: Foreground probabilities in [0, 1] of the same shape; without them there is no ROC AUC.
        valid: Mask of the same shape; only pixels where > 0 count.
        exact: Keep every probability for the exact ROC AUC instead of a histogram.

    Raises:
        InputError: shapes differ, or values do not form a mask or probabilities.
    """
    counts = confusion(prediction, reference, valid)
    if probabilities is None:
        return CaseMeasures(name, counts)
    return CaseMeasures(name, counts, (RocScores if exact else RocHistogram).of(probabilities, reference, valid))


def summarize(cases: Iterable[CaseMeasures]) -> dict[str, Any]:
    """The measures of a test set in both aggregations, ready for JSON: undefined measures are None.

    Returns:
        ``pooled``: each measure over the pixels of all images, ``auc_error_bound`` and ``pixels`` (AUC only if every
        case has probabilities). ``per_image``: ``mean``, sample standard deviation ``std`` and ``counted``, the number
        of images in which the measure is defined and which enter the two. ``cases``: name, counts and measures of each
        image.

    Raises:
        InputError: there are no cases.
    """
    cases = list(cases)
    if not cases:
        raise InputError("There is nothing to summarize: got no cases, expected at least one image with its reference.")
    counts = sum((case.counts for case in cases), ConfusionCounts())
    roc = pooled_roc(cases)
    pooled = measures_of(counts, roc) | {"auc_error_bound": math.nan if roc is None else roc.auc_error_bound}

    by_case = [case.measures for case in cases]
    defined = {name: [row[name] for row in by_case if not math.isnan(row[name])] for name in MEASURES}
    return {
        "pooled": _for_json(pooled) | {"pixels": counts.pixels},
        "per_image": {
            "mean": {name: float(np.mean(values)) if values else None for name, values in defined.items()},
            "std": {n: float(np.std(values, ddof=1)) if len(values) > 1 else None for n, values in defined.items()},
            "counted": {name: len(values) for name, values in defined.items()},
        },
        "cases": [
            {"name": case.name, **vars(case.counts), **_for_json(row)} for case, row in zip(cases, by_case, strict=True)
        ],
    }


def pooled_roc(cases: Sequence[CaseMeasures]) -> RocHistogram | RocScores | None:
    """The ROC over the pixels of all cases; ``None`` unless every case has probabilities."""
    rocs: list[Any] = [case.roc for case in cases if case.roc is not None]  # either all histograms or all exact
    return reduce(operator.add, rocs) if len(rocs) == len(cases) else None


def measures_of(counts: ConfusionCounts, roc: RocHistogram | RocScores | None) -> dict[str, float]:
    """All `MEASURES` for the given counts; NaN if undefined, and for AUC without a histogram."""
    measures = {name: float(getattr(counts, name)) for name in MEASURES if name != "auc"}
    return measures | {"auc": math.nan if roc is None else roc.auc}


def _for_json(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
