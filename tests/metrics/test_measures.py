"""The paper's measures: against hand-counted examples, scikit-learn, algebra, and inside a real MONAI evaluator."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import CheckpointSaver, MetricsSaver, StatsHandler, from_engine
from monai.inferers import SimpleInferer
from sklearn import metrics as sklearn_metrics
from torch.multiprocessing.spawn import spawn

from monai_r2unet.errors import InputError
from monai_r2unet.metrics import ConfusionCounts, RocHistogram, confusion, evaluate_case, roc_auc, summarize
from monai_r2unet.metrics.measures import MEASURES
from monai_r2unet.training.ignite_metrics import SegmentationMetrics

NAN = math.nan
law = settings(deadline=None, max_examples=50)  # no deadline: a busy machine is not an error
masks = arrays(bool, 40)
counts = st.integers(min_value=0, max_value=10**12)


@st.composite
def scored_pixels(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, some crowded at 0 and 1 as sigmoids crowd, and labels of both classes."""
    levels = st.one_of(
        st.integers(0, 8).map(lambda i: i / 8), st.floats(0, 1, width=32), st.floats(0, 2**-13, width=32)
    )
    scores = np.array(draw(st.lists(levels, min_size=2, max_size=60)), dtype=np.float32)
    labels = draw(arrays(bool, len(scores)).filter(lambda a: a.any() and not a.all()))
    return scores, labels


# Counts and measures


def test_hand_counted_example() -> None:
    prediction = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    reference = np.array([[1, 1, 0, 1], [0, 0, 0, 0]])
    table = confusion(prediction, reference)
    assert table == ConfusionCounts(tp=2, fp=1, tn=4, fn=1)
    assert table.accuracy == 6 / 8
    assert table.sensitivity == 2 / 3
    assert table.specificity == 4 / 5
    assert table.precision == 2 / 3
    assert table.balanced_accuracy == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert table.dice == table.f1 == 4 / 6
    assert table.jaccard == 2 / 4


@law
@given(masks, masks)
def test_equal_to_scikit_learn(prediction: np.ndarray, reference: np.ndarray) -> None:
    table = confusion(prediction, reference)
    tn, fp, fn, tp = sklearn_metrics.confusion_matrix(reference, prediction, labels=[False, True]).ravel()
    assert table == ConfusionCounts(tp=tp, fp=fp, tn=tn, fn=fn)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(reference, prediction),
        "sensitivity": sklearn_metrics.recall_score(reference, prediction, zero_division=np.nan),
        "specificity": sklearn_metrics.recall_score(reference, prediction, pos_label=False, zero_division=np.nan),
        "precision": sklearn_metrics.precision_score(reference, prediction, zero_division=np.nan),
        "f1": sklearn_metrics.f1_score(reference, prediction, zero_division=1.0),
        "jaccard": sklearn_metrics.jaccard_score(reference, prediction, zero_division=1.0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(table, name), value, rtol=1e-12, err_msg=name)


@law
@given(st.builds(ConfusionCounts, tp=counts.filter(bool), fp=counts, tn=counts, fn=counts))
def test_identities(table: ConfusionCounts) -> None:
    precision, recall = table.precision, table.sensitivity
    assert table.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert table.jaccard == pytest.approx(table.dice / (2 - table.dice))


@pytest.mark.parametrize(
    ("table", "overlap", "sensitivity", "specificity", "precision", "accuracy"),
    [
        (ConfusionCounts(tn=9), 1, NAN, 1, NAN, 1),  # both empty
        (ConfusionCounts(tn=6, fp=3), 0, NAN, 2 / 3, 0, 2 / 3),  # only the reference is empty
        (ConfusionCounts(tn=6, fn=3), 0, 0, 1, NAN, 2 / 3),  # only the prediction is empty
        (ConfusionCounts(tp=9), 1, 1, NAN, 1, 1),  # both full
        (ConfusionCounts(), NAN, NAN, NAN, NAN, NAN),  # no valid pixel
    ],
)
def test_empty_masks(
    table: ConfusionCounts, overlap: float, sensitivity: float, specificity: float, precision: float, accuracy: float
) -> None:
    got = [table.dice, table.f1, table.jaccard, table.sensitivity, table.specificity, table.precision, table.accuracy]
    np.testing.assert_equal(got, [overlap, overlap, overlap, sensitivity, specificity, precision, accuracy])


@law
@given(masks, masks, masks)
def test_only_valid_pixels_count(prediction: np.ndarray, reference: np.ndarray, valid: np.ndarray) -> None:
    assert confusion(prediction, reference, valid) == confusion(prediction[valid], reference[valid])


def test_slices_add_up_to_the_volume() -> None:
    rng = np.random.default_rng(0)
    probabilities, reference = rng.random((6, 20, 30)), rng.random((6, 20, 30)) > 0.8
    table, roc = ConfusionCounts(), RocHistogram()
    for scores, labels in zip(probabilities, reference, strict=True):
        table += confusion(scores > 0.5, labels)
        roc += RocHistogram.of(scores, labels)
    assert table == confusion(probabilities > 0.5, reference)
    assert torch.equal(roc.counts, RocHistogram.of(probabilities, reference).counts)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", ">i2", "int64", "float32"])
def test_any_kind_of_mask(dtype: str) -> None:
    rng = np.random.default_rng(1)
    prediction, reference = rng.random((2, 8, 9)) > 0.5
    expected = confusion(prediction, reference)
    scale = 1 if dtype == "bool" else 255
    converted = (prediction * scale).astype(dtype)
    converted.flags.writeable = False
    assert confusion(converted, reference) == expected
    assert confusion(converted[::-1, ::-1], reference[::-1, ::-1]) == expected
    if dtype not in ("uint16", ">i2"):  # torch does not compare the one and does not have the other
        tensor = torch.tensor(converted)
        assert confusion(tensor, torch.from_numpy(reference)) == expected
        assert confusion(MetaTensor(tensor), reference) == expected


# Wrong input


def test_shapes_must_match() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\) but the reference has shape \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"\(2, 3\) but the mask of valid pixels has shape \(1, 3\)"):
        confusion(np.zeros((2, 3)), np.zeros((2, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="shape"):
        roc_auc(torch.zeros(4), torch.zeros(2, 2))


@pytest.mark.parametrize("values", [[0.2, 1.0], [NAN, 1.0]])
def test_probabilities_are_not_a_mask(values: list[float]) -> None:
    for kind in (np.array, torch.tensor):
        with pytest.raises(InputError, match="the prediction holds fractions"):
            confusion(kind(values), np.array([0, 1]))


@pytest.mark.parametrize("values", [[-3.0, 0.5], [0.5, 5.0], [NAN, 0.5]])
def test_logits_and_nan_are_not_probabilities(values: list[float]) -> None:
    for function in (roc_auc, RocHistogram.of):
        with pytest.raises(InputError, match=r"expected 0 to 1|hold NaN"):
            function(np.array(values), np.array([0, 1]))
        # Outside the valid pixels anything may stand.
        function(np.array([*values, 0.5]), np.array([0, 1, 1]), np.array([0, 0, 1]))


# ROC AUC


@law
@given(scored_pixels())
def test_auc_equal_to_scikit_learn(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = pixels
    assert roc_auc(scores, labels) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_ties_and_of_float64() -> None:
    assert roc_auc(np.full(4, 0.3), np.array([0, 1, 0, 1])) == 0.5
    assert roc_auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1])) == 3.5 / 4
    assert roc_auc(np.array([0.5, 0.5 + 1e-12]), np.array([0, 1])) == 1.0  # one number in single precision


def test_auc_needs_both_classes() -> None:
    scores = np.array([0.1, 0.9])
    for labels, valid in (([0, 0], None), ([1, 1], None), ([0, 1], [1, 0]), ([0, 1], [0, 0])):
        counted = None if valid is None else np.array(valid)
        assert math.isnan(roc_auc(scores, np.array(labels), counted))
        histogram = RocHistogram.of(scores, np.array(labels), counted)
        assert math.isnan(histogram.auc)
        assert math.isnan(histogram.auc_error_bound)


@law
@given(scored_pixels())
def test_histogram_auc_within_its_bound(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    histogram = RocHistogram.of(*pixels)
    assert abs(histogram.auc - roc_auc(*pixels)) <= histogram.auc_error_bound + 1e-12


def test_histogram_auc_is_exact_to_the_fifth_digit_on_a_plausible_image() -> None:
    torch.manual_seed(0)
    labels = torch.rand(500, 500) < 0.12
    probabilities = torch.sigmoid(torch.where(labels, 1.5, -4.0) + 2 * torch.randn(500, 500))
    histogram = RocHistogram.of(probabilities, labels)
    assert histogram.auc == pytest.approx(roc_auc(probabilities, labels), abs=5e-6)
    assert histogram.auc_error_bound < 5e-5


def test_histogram_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    scores, labels, valid = rng.random(1000), rng.random(1000) > 0.7, rng.random(1000) > 0.3
    whole = RocHistogram.of(scores, labels, valid)
    monkeypatch.setattr("monai_r2unet.metrics.roc._CHUNK", 64)
    assert torch.equal(RocHistogram.of(scores, labels, valid).counts, whole.counts)
    assert whole.counts.sum() == valid.sum()


@law
@given(masks, masks.filter(lambda a: a.any() and not a.all()))
def test_auc_of_a_mask_is_balanced_accuracy(prediction: np.ndarray, reference: np.ndarray) -> None:
    # Why the AUC columns of the paper's Tables II and III equal (SE + SP) / 2.
    table = confusion(prediction, reference)
    assert roc_auc(prediction.astype(float), reference) == pytest.approx(table.balanced_accuracy)


# Aggregation


def test_pooled_and_per_image() -> None:
    small = evaluate_case("small", np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]))  # Dice 2/3
    large = evaluate_case("large", np.repeat([1, 0], 50), np.repeat([1, 0], 50))  # Dice 1
    empty = evaluate_case("empty", np.zeros(10), np.zeros(10))  # Dice 1, sensitivity undefined
    result = json.loads(json.dumps(summarize([small, large, empty]), allow_nan=False))

    assert result["pooled"]["dice"] == result["pooled"]["f1"] == pytest.approx(2 * 51 / (2 * 51 + 1))
    assert result["pooled"]["pixels"] == 114
    assert result["per_image"]["mean"]["dice"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert result["per_image"]["std"]["dice"] == pytest.approx(np.std([2 / 3, 1, 1], ddof=1))
    assert result["per_image"]["counted"] == dict.fromkeys(MEASURES, 3) | {
        "sensitivity": 2,
        "precision": 2,
        "balanced_accuracy": 2,
        "auc": 0,
    }
    assert result["per_image"]["mean"]["auc"] is None
    assert result["pooled"]["auc"] is None
    assert [case["name"] for case in result["cases"]] == ["small", "large", "empty"]
    assert result["cases"][0]["fp"] == 1
    assert result["cases"][2]["sensitivity"] is None


def test_auc_pooled_and_per_image() -> None:
    rng = np.random.default_rng(3)
    cases, scores, labels = [], [], []
    for i, size in enumerate((300, 900)):
        reference = rng.random(size) > 0.6
        probabilities = np.clip(0.3 * i + 0.3 * reference + 0.4 * rng.random(size), 0, 1)
        cases.append(evaluate_case(str(i), probabilities > 0.5, reference, probabilities=probabilities))
        scores.append(probabilities)
        labels.append(reference)
    result = summarize(cases)
    bound = result["pooled"]["auc_error_bound"]
    assert 0 < bound < 1e-3
    assert result["pooled"]["auc"] == pytest.approx(roc_auc(np.concatenate(scores), np.concatenate(labels)), abs=bound)
    exact = [roc_auc(s, y) for s, y in zip(scores, labels, strict=True)]
    assert result["per_image"]["mean"]["auc"] == pytest.approx(np.mean(exact), abs=1e-3)
    assert abs(result["pooled"]["auc"] - np.mean(exact)) > 0.01  # the two aggregations differ
    mask_only = evaluate_case("2", labels[0], labels[0])
    assert summarize([*cases, mask_only])["pooled"]["auc"] is None  # not the AUC of a part of the images


def test_one_case_has_no_deviation_and_none_is_an_error() -> None:
    case = evaluate_case("a", np.array([1, 0]), np.array([1, 0]), valid=np.array([1, 1]))
    assert summarize([case])["per_image"]["std"]["dice"] is None
    with pytest.raises(InputError, match="no cases"):
        summarize([])


# Inside a MONAI evaluator


def images(number: int) -> list[dict[str, torch.Tensor]]:
    """Images that are their own probabilities, with labels 0/255 and a field of view."""
    generator = torch.Generator().manual_seed(0)
    result = []
    for _ in range(number):
        label = torch.rand(1, 16, 16, generator=generator) > 0.7
        noise = torch.rand(1, 16, 16, generator=generator)
        fov = torch.rand(1, 16, 16, generator=generator) > 0.2
        result.append({"image": 0.4 * label + 0.6 * noise, "label": label.to(torch.uint8) * 255, "fov": fov})
    return result


def expected_of(data: list[dict[str, torch.Tensor]], with_fov: bool = False) -> dict[str, float]:
    """The pooled measures of the images, by `summarize`, under the names of the metric."""
    cases = []
    for item in data:
        valid = item["fov"] if with_fov else None
        case = evaluate_case("", item["image"] >= 0.5, item["label"], probabilities=item["image"], valid=valid)
        cases.append(case)
    histogram = sum((case.roc for case in cases if isinstance(case.roc, RocHistogram)), RocHistogram())
    measures = {name: summarize(cases)["pooled"][name] for name in MEASURES}
    return {f"val_{name}": value for name, value in measures.items()} | {"val_best_threshold": histogram.best_threshold}


def evaluator_of(data: list[dict[str, torch.Tensor]], metric: SegmentationMetrics, **options: Any) -> Any:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=torch.nn.Identity(),
        inferer=SimpleInferer(),
        key_val_metric={"val_dice": metric},
        **options,
    )


@pytest.mark.parametrize("decollate", [True, False])
def test_key_metric_of_an_evaluator(decollate: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = images(5)
    network = torch.nn.Linear(1, 1)
    handlers = [
        StatsHandler(iteration_log=False, name=None),
        MetricsSaver(save_dir=str(tmp_path), metrics="*"),
        CheckpointSaver(save_dir=str(tmp_path), save_dict={"network": network}, save_key_metric=True),
    ]
    metric = SegmentationMetrics(from_engine(["pred", "label"]))
    evaluator = evaluator_of(data, metric, decollate=decollate, val_handlers=handlers)
    expected = expected_of(data)
    for _ in range(2):  # a second run starts from nothing
        evaluator.run()
        assert evaluator.state.metrics == pytest.approx(expected)
    assert evaluator.state.best_metric == pytest.approx(expected["val_dice"])
    assert f"val_auc: {expected['val_auc']:.4f}" in caplog.text
    saved = dict(line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines())
    assert float(saved["val_jaccard"]) == pytest.approx(expected["val_jaccard"])
    assert list(tmp_path.glob("*key_metric=*.pt"))


@pytest.mark.parametrize("decollate", [True, False])
def test_evaluator_with_field_of_view(decollate: bool) -> None:
    data = images(3)
    metric = SegmentationMetrics(from_engine(["pred", "label"]), valid_key="fov")
    evaluator = evaluator_of(data, metric, decollate=decollate)
    evaluator.run()
    assert evaluator.state.metrics == pytest.approx(expected_of(data, with_fov=True))
    assert evaluator.state.metrics["val_dice"] != pytest.approx(expected_of(data)["val_dice"])


def test_batched_meta_tensors_and_threshold() -> None:
    data = images(3)
    probabilities = torch.stack([item["image"] for item in data])
    labels = torch.stack([item["label"] for item in data])
    metric = SegmentationMetrics(threshold=0.8, prefix="")
    metric.update((MetaTensor(probabilities), MetaTensor(labels)))
    assert metric.compute()["dice"] == confusion(probabilities >= 0.8, labels).dice
    metric.reset()
    assert all(math.isnan(value) for value in metric.compute().values())


def test_metric_refuses_what_it_cannot_measure() -> None:
    metric = SegmentationMetrics()
    label = torch.zeros(1, 4, 4)
    with pytest.raises(InputError, match="apply a sigmoid"):
        metric.update(([torch.full((1, 4, 4), -2.0)], [label]))
    with pytest.raises(InputError, match="2 channels"):
        metric.update(([torch.zeros(2, 4, 4)], [label]))
    assert math.isnan(metric.compute()["val_dice"])  # a refused batch leaves nothing behind
    with pytest.raises(InputError, match="attached as 'val_dice', expected one of test_accuracy"):
        evaluator_of(images(1), SegmentationMetrics(prefix="test_"))


def run_rank(rank: int, folder: str) -> None:
    """In one of two processes evaluate every second of five images, then count the sixth, and write both results."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    metric = SegmentationMetrics(from_engine(["pred", "label"]))
    *data, sixth = images(6)
    evaluator = evaluator_of(data[rank::2], metric)
    evaluator.run()
    metric.update((sixth["image"][None], sixth["label"][None]))
    Path(folder, f"{rank}.json").write_text(json.dumps([evaluator.state.metrics, metric.compute()]))
    torch.distributed.destroy_process_group()


def test_two_processes_count_like_one(tmp_path: Path) -> None:
    spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    *data, sixth = images(6)
    for rank in range(2):
        evaluated, continued = json.loads((tmp_path / f"{rank}.json").read_text())
        assert evaluated == pytest.approx(expected_of(data), abs=1e-15)
        # Each process went on from its own counts, not from the sum.
        assert continued == pytest.approx(expected_of([*data, sixth, sixth]), abs=1e-15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@law
@given(scored_pixels())
def test_cuda_counts_like_the_cpu(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = (torch.from_numpy(array) for array in pixels)
    on_cpu, on_cuda = SegmentationMetrics(), SegmentationMetrics()
    on_cpu.update((scores[None, None], labels[None, None]))
    on_cuda.update((scores[None, None].cuda(), labels[None, None]))
    assert on_cuda.compute() == on_cpu.compute()
    assert roc_auc(scores.cuda(), labels) == roc_auc(scores, labels)
