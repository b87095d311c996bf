"""The exact ROC AUC against scikit-learn, and the threshold of the highest Dice against trying them all."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from monai_r2unet.errors import InputError
from monai_r2unet.metrics import RocHistogram, RocScores, confusion, evaluate_case, summarize

probabilities = st.one_of(
    st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 8).map(lambda n: 0.5 + n * 2**-24)
)


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, many of them tied or closer than a bin of the histogram, and their reference."""
    count = draw(st.integers(2, 60))
    return draw(arrays(np.float32, count, elements=probabilities)), draw(
        arrays(np.uint8, count, elements=st.booleans())
    )


@settings(max_examples=100, deadline=None)
@given(image=images())
def test_the_area_is_that_of_scikit_learn(image: tuple[np.ndarray, np.ndarray]) -> None:
    scores, reference = image
    roc = RocScores.of(scores, reference)
    if len(np.unique(reference)) < 2:
        assert math.isnan(roc.auc)
        assert math.isnan(roc.auc_error_bound)
    else:
        assert roc.auc == pytest.approx(roc_auc_score(reference, scores), abs=1e-12)
        assert roc.auc_error_bound == 0


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(images(), min_size=1, max_size=4))
def test_the_scores_of_several_images_add_up(parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores, reference = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assume(len(np.unique(reference)) == 2)
    total = reduce(add, [RocScores.of(*part) for part in parts])
    assert total.auc == pytest.approx(roc_auc_score(reference, scores), abs=1e-12)


def test_pooled_and_inside_a_field_of_view() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2, 1, 40, 30)).astype(np.float32) ** 3
    reference = (scores + rng.random(scores.shape) > 1).astype(np.uint8)
    valid = rng.random(scores.shape) > 0.3
    cases = [
        evaluate_case("", s >= 0.5, r, probabilities=torch.from_numpy(s), valid=v, exact=True)
        for s, r, v in zip(scores, reference, valid, strict=True)
    ]
    summary = summarize(cases)
    assert summary["pooled"]["auc"] == pytest.approx(roc_auc_score(reference[valid], scores[valid]), abs=1e-12)
    assert summary["pooled"]["auc_error_bound"] == 0
    for case, s, r, v in zip(summary["cases"], scores, reference, valid, strict=True):
        assert case["auc"] == pytest.approx(roc_auc_score(r[v], s[v]), abs=1e-12)


def test_the_histogram_is_off_where_the_exact_area_is_not() -> None:
    """Probabilities within one of its bins: it says so, and the exact one does not mind."""
    scores = np.float32(0.5) + np.arange(100, dtype=np.float32) * np.float32(2**-24)
    reference = np.arange(100) >= 50
    assert RocScores.of(scores, reference).auc == 1
    assert RocHistogram.of(scores, reference).auc == 0.5
    assert RocHistogram.of(scores, reference).auc_error_bound == 0.5


@pytest.mark.parametrize("kind", [RocScores, RocHistogram])
def test_logits_and_nan_are_refused(kind: type[RocScores] | type[RocHistogram]) -> None:
    for bad in (-3.0, 1.5, np.nan):
        with pytest.raises(InputError, match="hold NaN" if np.isnan(bad) else "apply a sigmoid"):
            kind.of(np.array([0.1, bad], np.float32), np.array([0, 1]))


@settings(max_examples=40, deadline=None)
@given(image=images())
def test_the_best_threshold_gives_the_highest_dice(image: tuple[np.ndarray, np.ndarray]) -> None:
    scores, reference = image
    best = RocHistogram.of(scores, reference).best_threshold
    if len(np.unique(reference)) < 2:
        assert math.isnan(best)
        return
    candidates = {min(math.floor(score * 4096), 4095) / 4096 for score in scores.tolist()}
    dice = [confusion(scores >= threshold, reference).dice for threshold in candidates]
    assert confusion(scores >= best, reference).dice == max(dice)
    assert RocScores.of(scores, reference).best_threshold == best


def test_the_best_threshold_of_separated_classes_lies_between_them() -> None:
    scores = np.array([0.1, 0.2, 0.7, 0.9], np.float32)
    best = RocHistogram.of(scores, np.array([0, 0, 1, 1])).best_threshold
    assert 0.2 < best <= 0.7
