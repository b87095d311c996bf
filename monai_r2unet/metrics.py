"""The measures of the R2U-Net paper (Section IV.B), each computed once, from confusion counts.

Two aggregations, always named: *pooled* (one confusion table over the pixels of all images) and *per image* (a measure
of each image, then mean and standard deviation). F1 and Dice of one confusion table are the same number,
2TP / (2TP + FP + FN); the two columns of the paper can only differ because they are aggregated differently.
docs/metrics.md has the definitions, the conventions for empty masks, and what the paper's columns really hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from monai_r2unet.errors import InputError

__all__ = [
    "MEASURES",
    "Case",
    "ConfusionCounts",
    "RocHistogram",
    "confusion",
    "evaluate_case",
    "measures_of",
    "roc_auc",
    "summarize",
]

Array: TypeAlias = "NDArray[Any] | torch.Tensor"

MEASURES = ("accuracy", "sensitivity", "specificity", "precision", "balanced_accuracy", "f1", "dice", "jaccard", "auc")
"""The names of the measures, in the order in which they are reported."""

# A power of two, so that sorting a float into its bin is exact.
_BINS = 4096
# Pixels binned at a time, so that a CT volume of 1e8 voxels needs no copies wider than a byte a voxel.
_CHUNK = 2**22


@dataclass(frozen=True)
class ConfusionCounts:
    """Pixels by prediction and reference; counts of several images add up with ``+``.

    A measure that is undefined is NaN: everything without any pixel, sensitivity without reference foreground,
    specificity without reference background, precision without predicted foreground. Dice, F1 and Jaccard of two empty
    masks are 1: they agree.
    """

    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0

    def __add__(self, other: ConfusionCounts) -> ConfusionCounts:
        """The counts of the pixels of both."""
        return ConfusionCounts(self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn)

    @property
    def pixels(self) -> int:
        """The number of pixels counted."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all, the paper's Eq. (4)."""
        return _ratio(self.tp + self.tn, self.pixels)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), the paper's Eq. (5); also called recall."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP), the paper's Eq. (6)."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def balanced_accuracy(self) -> float:
        """(sensitivity + specificity) / 2: what a ROC AUC becomes when it is taken of a mask, not of probabilities."""
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
        """TP / (TP + FP + FN), the paper's Eq. (8); not what its JSC columns hold."""
        return self._overlap(self.tp)

    def _overlap(self, common: int) -> float:
        different = self.fp + self.fn
        if self.pixels > 0 and common + different == 0:
            return 1.0  # both masks are empty
        return _ratio(common, common + different)


@dataclass(frozen=True, eq=False)
class RocHistogram:
    """Foreground probabilities by reference class in 4096 equal bins over [0, 1]; histograms add up with ``+``.

    ``counts`` is int64, 2 x 4096: row 0 background, row 1 foreground. It gives the ROC AUC of any number of images in
    64 KiB.
    """

    counts: torch.Tensor = field(default_factory=lambda: torch.zeros(2, _BINS, dtype=torch.int64))

    def __add__(self, other: RocHistogram) -> RocHistogram:
        """The histogram of the pixels of both."""
        return RocHistogram(self.counts + other.counts)

    @classmethod
    def of(cls, probabilities: Array, reference: Array, valid: Array | None = None) -> RocHistogram:
        """Bin one image, a few million pixels at a time.

        Args:
            probabilities: foreground probabilities in [0, 1], any shape.
            reference: mask of the same shape, foreground where > 0.
            valid: mask of the same shape; only pixels where > 0 count.

        Raises:
            InputError: shapes differ, or a probability that counts is outside [0, 1].
        """
        scores, positive, counted = _scores(probabilities, reference, valid)
        # The index of a bin is class * 4096 + bin: one count serves both classes.
        counts = torch.zeros(2 * _BINS, dtype=torch.int64, device=scores.device)
        for start in range(0, scores.numel(), _CHUNK):
            part = slice(start, start + _CHUNK)
            chunk, classes = scores[part], positive[part]
            if counted is not None:
                chunk, classes = chunk[counted[part]], classes[counted[part]]
            _check_probabilities(chunk)
            bins = (chunk * _BINS).long().clamp_(0, _BINS - 1)
            counts += torch.bincount(bins + _BINS * classes, minlength=2 * _BINS)
        return cls(counts.view(2, _BINS).cpu())

    @property
    def auc(self) -> float:
        """ROC AUC, within ``auc_error_bound`` of the exact one: pairs in one bin count as ties. NaN for one class."""
        background, foreground = self.counts.double()
        background_below = background.cumsum(0) - background
        return _ratio(float((foreground * (background_below + background / 2)).sum()), self._pairs)

    @property
    def auc_error_bound(self) -> float:
        """The most by which ``auc`` can be off: half the share of pairs that fall into one bin. NaN for one class."""
        background, foreground = self.counts.double()
        return _ratio(float((foreground * background).sum()) / 2, self._pairs)

    @property
    def _pairs(self) -> int:
        background, foreground = self.counts.sum(1).tolist()
        return int(background * foreground)


def confusion(prediction: Array, reference: Array, valid: Array | None = None) -> ConfusionCounts:
    """Count the pixels of two masks by class.

    Args:
        prediction: mask of any shape, foreground where > 0 (bool, 0/1 and 0/255 alike).
        reference: mask of the same shape.
        valid: mask of the same shape, such as a retina's field of view; only pixels where > 0 count.

    Raises:
        InputError: shapes differ, or a mask holds fractions (probabilities that nobody thresholded).
    """
    _check_shapes(prediction, reference, valid)
    predicted = _mask(prediction, "the prediction")
    positive = _mask(reference, "the reference").to(predicted.device)
    pixels = predicted.numel()
    if valid is not None:
        counted = _mask(valid, "the mask of valid pixels").to(predicted.device)
        predicted, positive = predicted & counted, positive & counted
        pixels = int(counted.count_nonzero())
    sums = torch.stack([predicted.count_nonzero(), positive.count_nonzero(), (predicted & positive).count_nonzero()])
    n_predicted, n_positive, tp = sums.tolist()
    return ConfusionCounts(tp=tp, fp=n_predicted - tp, tn=pixels - n_predicted - n_positive + tp, fn=n_positive - tp)


def roc_auc(probabilities: Array, reference: Array, valid: Array | None = None) -> float:
    """The exact ROC AUC: the share of foreground-background pairs in the right order, ties counted half.

    It sorts every pixel, so it is for arrays that fit; `RocHistogram` is for everything else.

    Args:
        probabilities: foreground probabilities in [0, 1], any shape.
        reference: mask of the same shape, foreground where > 0.
        valid: mask of the same shape; only pixels where > 0 count.

    Returns:
        The AUC, NaN where one of the classes is missing.

    Raises:
        InputError: shapes differ, or a probability that counts is outside [0, 1].
    """
    scores, positive, counted = _scores(probabilities, reference, valid)
    if counted is not None:
        scores, positive = scores[counted], positive[counted]
    _check_probabilities(scores)
    background, foreground = scores[~positive].sort().values, scores[positive].sort().values
    below = torch.searchsorted(background, foreground).sum()
    below_or_tied = torch.searchsorted(background, foreground, right=True).sum()
    return _ratio(int(below + below_or_tied), 2 * background.numel() * foreground.numel())


@dataclass(frozen=True)
class Case:
    """What `summarize` needs of one image: its name, counts and, if there were probabilities, their histogram."""

    name: str
    counts: ConfusionCounts
    roc: RocHistogram | None = None

    @property
    def measures(self) -> dict[str, float]:
        """Each of `MEASURES`; NaN where undefined, ``auc`` also without probabilities."""
        return measures_of(self.counts, self.roc)


def evaluate_case(
    name: str,
    prediction: Array,
    reference: Array,
    *,
    probabilities: Array | None = None,
    valid: Array | None = None,
) -> Case:
    """Compare one image's mask with its reference.

    Args:
        name: what the case is called in the results.
        prediction: mask of any shape, foreground where > 0, after the threshold and all postprocessing.
        reference: mask of the same shape.
        probabilities: foreground probabilities in [0, 1] of the same shape; without them there is no ROC AUC.
        valid: mask of the same shape; only pixels where > 0 count.

    Raises:
        InputError: shapes differ, or values are not those of a mask or of probabilities.
    """
    counts = confusion(prediction, reference, valid)
    roc = None if probabilities is None else RocHistogram.of(probabilities, reference, valid)
    return Case(name, counts, roc)


def summarize(cases: Iterable[Case]) -> dict[str, Any]:
    """The measures of a test set, both aggregations, ready for JSON: an undefined measure is None.

    Returns:
        ``pooled``: each measure over the pixels of all images, ``auc_error_bound`` and ``pixels`` (AUC only if every
        case has probabilities). ``per_image``: ``mean``, sample standard deviation ``std`` and ``counted``, the number
        of images in which the measure is defined and over which the two are taken. ``cases``: name, counts and
        measures of each image.

    Raises:
        InputError: there are no cases.
    """
    cases = list(cases)
    if not cases:
        raise InputError("There is nothing to summarize: got no cases, expected at least one image with its reference.")
    rocs = [case.roc for case in cases if case.roc is not None]
    counts = sum((case.counts for case in cases), ConfusionCounts())
    roc = sum(rocs, RocHistogram()) if len(rocs) == len(cases) else None
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


def measures_of(counts: ConfusionCounts, roc: RocHistogram | None) -> dict[str, float]:
    """Each of `MEASURES` of some counts; NaN where undefined, and for AUC without a histogram."""
    measures = {name: float(getattr(counts, name)) for name in MEASURES if name != "auc"}
    return measures | {"auc": math.nan if roc is None else roc.auc}


def _for_json(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _check_shapes(prediction: Array, reference: Array, valid: Array | None) -> None:
    for values, what in ((reference, "the reference"), (valid, "the mask of valid pixels")):
        if values is not None and tuple(values.shape) != tuple(prediction.shape):
            raise InputError(
                f"The prediction has shape {tuple(prediction.shape)} but {what} has shape {tuple(values.shape)}: "
                "bring both onto the same grid first."
            )


def _check_probabilities(scores: torch.Tensor) -> None:
    if scores.numel() == 0:
        return
    low, high = (float(value) for value in scores.aminmax())
    # Interpolating probabilities in single precision leaves [0, 1] by a rounding error; NaN fails the comparison.
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InputError(f"Probabilities range from {low:g} to {high:g}, expected 0 to 1: apply a sigmoid to logits.")


def _mask(values: Array, what: str) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        values = values.detach().as_subclass(torch.Tensor)  # a MetaTensor would carry its metadata along
    if "float" in str(values.dtype) and bool((values % 1 != 0).any()):
        raise InputError(f"A mask was expected but {what} holds fractions: apply a threshold to probabilities first.")
    foreground = values > 0
    # NumPy compares for itself: torch cannot take every array (byte order, uint16, negative strides).
    return foreground if isinstance(foreground, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(foreground))


def _scores(
    probabilities: Array, reference: Array, valid: Array | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Probabilities, reference and valid pixels as flat tensors on one device."""
    _check_shapes(probabilities, reference, valid)
    if isinstance(probabilities, torch.Tensor):
        scores = probabilities.detach().as_subclass(torch.Tensor).flatten()
        scores = scores if scores.dtype == torch.float64 else scores.float()
    else:
        dtype = np.float64 if np.asarray(probabilities).dtype == np.float64 else np.float32
        scores = torch.from_numpy(np.require(probabilities, dtype, ["C", "W"])).flatten()
    positive = _mask(reference, "the reference").flatten().to(scores.device)
    counted = None if valid is None else _mask(valid, "the mask of valid pixels").flatten().to(scores.device)
    return scores, positive, counted
