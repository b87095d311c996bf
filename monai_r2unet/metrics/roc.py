"""The ROC curve of foreground probabilities: its area, exactly or from a histogram that adds up over any data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from monai_r2unet.metrics.arrays import Array, check_probabilities, flat_scores, ratio

__all__ = ["RocHistogram", "RocScores", "roc_auc"]

# A power of two, so that sorting a float into its bin is exact.
_BINS = 4096
# Pixels binned at a time, so that a CT volume of 1e8 voxels needs no copies wider than a byte a voxel.
_CHUNK = 2**22


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
        scores, positive, counted = flat_scores(probabilities, reference, valid)
        # The index of a bin is class * 4096 + bin: one count serves both classes.
        counts = torch.zeros(2 * _BINS, dtype=torch.int64, device=scores.device)
        for start in range(0, scores.numel(), _CHUNK):
            part = slice(start, start + _CHUNK)
            chunk, classes = scores[part], positive[part]
            if counted is not None:
                chunk, classes = chunk[counted[part]], classes[counted[part]]
            check_probabilities(chunk)
            bins = (chunk * _BINS).long().clamp_(0, _BINS - 1)
            counts += torch.bincount(bins + _BINS * classes, minlength=2 * _BINS)
        return cls(counts.view(2, _BINS).cpu())

    @property
    def auc(self) -> float:
        """ROC AUC, within ``auc_error_bound`` of the exact one: pairs in one bin count as ties. NaN for one class."""
        background, foreground = self.counts.double()
        background_below = background.cumsum(0) - background
        return ratio(float((foreground * (background_below + background / 2)).sum()), self._pairs)

    @property
    def auc_error_bound(self) -> float:
        """The most by which ``auc`` can be off: half the share of pairs that fall into one bin. NaN for one class."""
        background, foreground = self.counts.double()
        return ratio(float((foreground * background).sum()) / 2, self._pairs)

    @property
    def best_threshold(self) -> float:
        """The threshold, a multiple of 1/4096, at which Dice is highest: foreground from there on. NaN for one class.

        For validation data only: a threshold chosen on test data flatters them.
        """
        if self._pairs == 0:
            return math.nan
        background, foreground = self.counts.flip(1).cumsum(1).flip(1).double()
        # 2TP / (2TP + FP + FN) = 2TP / (predicted + reference foreground)
        dice = 2 * foreground / (foreground + background + foreground[0])
        return int(dice.argmax()) / _BINS

    @property
    def _pairs(self) -> int:
        background, foreground = self.counts.sum(1).tolist()
        return int(background * foreground)


@dataclass(frozen=True, eq=False)
class RocScores:
    """All foreground probabilities by reference class, for the exact ROC AUC; they add up with ``+``.

    Four bytes a pixel: for test sets of photographs. `RocHistogram` is for everything larger.
    """

    background: torch.Tensor
    foreground: torch.Tensor

    def __add__(self, other: RocScores) -> RocScores:
        """The probabilities of the pixels of both."""
        return RocScores(torch.cat([self.background, other.background]), torch.cat([self.foreground, other.foreground]))

    @classmethod
    def of(cls, probabilities: Array, reference: Array, valid: Array | None = None) -> RocScores:
        """Take the pixels of one image; arguments and errors as those of `roc_auc`."""
        scores, positive, counted = flat_scores(probabilities, reference, valid)
        if counted is not None:
            scores, positive = scores[counted], positive[counted]
        check_probabilities(scores)
        return cls(scores[~positive].cpu(), scores[positive].cpu())

    @property
    def auc(self) -> float:
        """The exact ROC AUC, ties counted half. NaN where one of the classes is missing."""
        background = self.background.sort().values
        below = torch.searchsorted(background, self.foreground).sum()
        below_or_tied = torch.searchsorted(background, self.foreground, right=True).sum()
        return ratio(int(below + below_or_tied), 2 * background.numel() * self.foreground.numel())

    @property
    def auc_error_bound(self) -> float:
        """0, or NaN where there is no AUC."""
        return ratio(0.0, self.background.numel() * self.foreground.numel())

    @property
    def best_threshold(self) -> float:
        """That of the histogram of these probabilities, see there."""
        scores = torch.cat([self.background, self.foreground])
        positive = torch.arange(scores.numel()) >= self.background.numel()
        return RocHistogram.of(scores, positive).best_threshold


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
    return RocScores.of(probabilities, reference, valid).auc
