"""ROC curves of foreground probabilities: the area, exact or from a histogram that can be summed over any amount of
data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from monai_r2unet.metrics.arrays import Array, check_probabilities, flat_scores, ratio

__all__ = ["RocHistogram", "RocScores", "roc_auc"]

# A power of two, so that binning a float is exact.
_BINS = 4096
# Pixels binned at a time, so that a CT volume of 1e8 voxels needs no copies wider than one byte per voxel.
_CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class RocHistogram:
    """Foreground probabilities by reference class in 4096 equal bins over [0, 1]; histograms add up with ``+``.

    ``counts`` is int64, 2 x 4096: row 0 background, row 1 foreground. The ROC AUC of any number of images thus needs
    only 64 KiB.
    """

    counts: torch.Tensor = field(default_factory=lambda: torch.zeros(2, _BINS, dtype=torch.int64))

    def __add__(self, other: RocHistogram) -> RocHistogram:
        """The histogram of both together."""
        return RocHistogram(self.counts + other.counts)

    @classmethod
    def of(cls, probabilities: Array, reference: Array, valid: Array | None = None) -> RocHistogram:
        """Bin one image, a few million pixels at a time.

        Args:
            probabilities: Foreground probabilities in [0, 1], any shape.
            reference: Mask of the same shape, foreground where > 0.
            valid: Mask of the same shape; only pixels where > 0 count.

        Raises:
            InputError: shapes differ, or a valid pixel's probability is outside [0, 1].
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
        """ROC AUC, within ``auc_error_bound`` of the exact one: pairs in one bin are ties. NaN for a missing class."""
        background, foreground = self.counts.double()
        background_below = background.cumsum(0) - background
        return ratio(float((foreground * (background_below + background / 2)).sum()), self._pairs)

    @property
    def auc_error_bound(self) -> float:
        """Largest possible error of ``auc``: half the share of pairs within one bin. NaN if a class is missing."""
        background, foreground = self.counts.double()
        return ratio(float((foreground * background).sum()) / 2, self._pairs)

    @property
    def best_threshold(self) -> float:
        """The threshold with the highest Dice, a multiple of 1/4096; foreground from there on. NaN for a missing class.

        For validation data only: choosing the threshold on test data is optimistic.
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

    Needs four bytes per pixel: for test sets of photographs. Use `RocHistogram` for anything larger.
    """

    background: torch.Tensor
    foreground: torch.Tensor

    def __add__(self, other: RocScores) -> RocScores:
        """The probabilities of both together."""
        return RocScores(torch.cat([self.background, other.background]), torch.cat([self.foreground, other.foreground]))

    @classmethod
    def of(cls, probabilities: Array, reference: Array, valid: Array | None = None) -> RocScores:
        """Collect the pixels of one image; arguments and errors as in `roc_auc`."""
        scores, positive, counted = flat_scores(probabilities, reference, valid)
        if counted is not None:
            scores, positive = scores[counted], positive[counted]
        check_probabilities(scores)
        return cls(scores[~positive].cpu(), scores[positive].cpu())

    @property
    def auc(self) -> float:
        """The exact ROC AUC, ties counted half. NaN if a class is missing."""
        background = self.background.sort().values
        below = torch.searchsorted(background, self.foreground).sum()
        below_or_tied = torch.searchsorted(background, self.foreground, right=True).sum()
        return ratio(int(below + below_or_tied), 2 * background.numel() * self.foreground.numel())

    @property
    def auc_error_bound(self) -> float:
        """0, or NaN if there is no AUC."""
        return ratio(0.0, self.background.numel() * self.foreground.numel())

    @property
    def best_threshold(self) -> float:
        """The best threshold of the histogram of these probabilities, see `RocHistogram`."""
        scores = torch.cat([self.background, self.foreground])
        positive = torch.arange(scores.numel()) >= self.background.numel()
        return RocHistogram.of(scores, positive).best_threshold


def roc_auc(probabilities: Array, reference: Array, valid: Array | None = None) -> float:
    """The exact ROC AUC: the share of foreground-background pairs in the right order, ties counted half.

    It sorts all pixels, so the arrays must fit into memory; otherwise use `RocHistogram`.

    Args:
        probabilities: Foreground probabilities in [0, 1], any shape.
        reference: Mask of the same shape, foreground where > 0.
        valid: Mask of the same shape; only pixels where > 0 count.

    Returns:
        The AUC, NaN if a class is missing.

    Raises:
        InputError: shapes differ, or a valid pixel's probability is outside [0, 1].
    """
    return RocScores.of(probabilities, reference, valid).auc
