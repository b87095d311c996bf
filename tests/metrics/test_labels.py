"""Measures of several labels: each as if it were alone, their mean, and what is taken for what."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.metrics import get_confusion_matrix

from monai_r2unet.errors import InputError
from monai_r2unet.images.label_values import checked_labels, grey_of
from monai_r2unet.metrics.labels import confusion_table, counts_of, evaluate_labels, summarize_labels
from monai_r2unet.metrics.measures import evaluate_case, summarize
from monai_r2unet.metrics.tables import format_summary
from monai_r2unet.training.evaluation_report import EvaluationReport
from monai_r2unet.training.ignite_metrics import SegmentationMetrics
from monai_r2unet.transforms.labels import LabelValuesd

NAMES = ("liver", "kidney")


def example(seed: int, shape: tuple[int, ...] = (1, 12, 10)) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of background and two labels, and a reference that mostly agrees."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(3, *shape[1:], generator=generator).softmax(0)
    reference = probabilities.argmax(0, keepdim=True)
    wrong = torch.rand(shape, generator=generator) < 0.3
    return probabilities, torch.where(wrong, torch.randint(3, shape, generator=generator), reference)


def test_the_table_agrees_with_monais_confusion_matrix_of_each_label() -> None:
    probabilities, reference = example(0)
    prediction = probabilities.argmax(0, keepdim=True)
    table = confusion_table(prediction, reference, 2)
    assert table.sum() == reference.numel()
    for value in (1, 2):
        of_monai = get_confusion_matrix((prediction == value)[None].float(), (reference == value)[None].float())
        counts = counts_of(table, value)
        assert [counts.tp, counts.fp, counts.tn, counts.fn] == of_monai[0, 0].tolist()


def test_exchanged_labels_are_no_agreement() -> None:
    reference = np.array([[0, 1, 1, 2, 2, 2]])
    exchanged = np.array([0, 2, 1])[reference]
    cases, table = evaluate_labels("case", exchanged, reference, NAMES)
    assert [case.measures["dice"] for case in cases] == [0, 0]
    assert table.tolist() == [[1, 0, 0], [0, 0, 2], [0, 3, 0]]


def test_a_summary_holds_each_label_the_mean_and_the_confusion() -> None:
    data = [example(seed) for seed in (0, 1)]
    masks = [(scores.argmax(0)[None], truth) for scores, truth in data]
    measured = [evaluate_labels(f"case{i}", *pair, NAMES) for i, pair in enumerate(masks)]
    summary = summarize_labels([cases for cases, _ in measured], [table for _, table in measured], NAMES)
    for value, name in enumerate(NAMES, 1):
        alone = summarize(
            evaluate_case(f"case{s}", example(s)[0].argmax(0)[None] == value, example(s)[1] == value) for s in (0, 1)
        )
        assert summary["labels"][name] == alone
    dice = [summary["labels"][name]["pooled"]["dice"] for name in NAMES]
    assert summary["mean"]["pooled"]["dice"] == pytest.approx(sum(dice) / 2)
    assert summary["confusion"]["labels"] == ["background", *NAMES]
    text = format_summary(json.loads(json.dumps(summary)))
    assert f"{dice[1]:.4f}" in text
    assert "kidney" in text


def test_a_label_that_is_nowhere_does_not_raise_the_mean() -> None:
    cases, table = evaluate_labels("case", np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), NAMES)
    assert summarize_labels([cases], [table], NAMES)["mean"]["pooled"]["dice"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [-1, 3, 0.5])
def test_values_that_are_no_labels_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"[Tt]he reference holds"):
        confusion_table(np.zeros((2, 2)), np.full((2, 2), value), 2)


def test_the_metric_measures_each_label_and_their_mean() -> None:
    data = [example(seed) for seed in range(3)]
    metric = SegmentationMetrics(labels=NAMES)
    for probabilities, reference in data:
        metric.update(([probabilities], [reference]))
    found = metric.compute()
    prediction = torch.stack([probabilities.argmax(0, keepdim=True) for probabilities, _ in data])
    reference = torch.stack([one for _, one in data])
    for value, name in enumerate(NAMES, 1):
        scores = torch.stack([probabilities[value : value + 1] for probabilities, _ in data])
        alone = evaluate_case("", prediction == value, reference == value, probabilities=scores).measures
        assert found[f"val_dice_{name}"] == alone["dice"]
        assert found[f"val_auc_{name}"] == pytest.approx(alone["auc"])
    assert found["val_dice"] == pytest.approx((found["val_dice_liver"] + found["val_dice_kidney"]) / 2)
    with pytest.raises(InputError, match="2 channels, expected 3"):
        metric.update(([torch.rand(2, 4, 4)], [torch.zeros(1, 4, 4)]))


def test_an_evaluation_reports_each_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = []
    for seed in range(2):
        probabilities, reference = example(seed)
        image = MetaTensor(probabilities, meta={"filename_or_obj": f"case{seed}.png"})
        data.append({"image": image, "label": MetaTensor(reference)})
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{k: v[None] for k, v in item.items()} for item in data],
        network=torch.nn.Identity(),
        val_handlers=[EvaluationReport(str(tmp_path), labels=NAMES)],
        key_val_metric={"val_dice": SegmentationMetrics(from_engine(["pred", "label"]), labels=NAMES)},
    )
    evaluator.run()
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(written["labels"]) == list(NAMES)
    assert written["mean"]["pooled"]["dice"] == pytest.approx(evaluator.state.metrics["val_dice"])
    assert [case["name"] for case in written["labels"]["kidney"]["cases"]] == ["case0.png", "case1.png"]
    assert not math.isnan(written["labels"]["liver"]["pooled"]["auc"])
    assert "liver" in capsys.readouterr().out


# ---- masks as they are read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32])
def test_one_label_may_have_any_value_and_several_are_refused_by_count(dtype: type) -> None:
    np.testing.assert_array_equal(checked_labels(np.array([0, 7, 7, 0], dtype), 1, "m"), [0, 1, 1, 0])
    with pytest.raises(InputError, match=r"the mask m holds 2 labels \(the values 0, 1, 2\), but this bundle has one"):
        checked_labels(np.array([0, 1, 2], dtype), 1, "m")


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([0.0, 0.25, 1.0], 1, "holds fractions, from 0 to 1"),
        ([0.0, float("nan")], 2, "holds fractions"),
        ([-1, 0, 1], 2, "negative values"),
        ([0, 1, 5], 2, "values 0, 1, 5, expected 0 to 2"),
        ([0, 128, 255], 1, "holds 2 labels"),
        (list(range(14)), 1, r"13 labels \(the values 0, 1, 2, 3, 4, 5, ... 13\)"),
    ],
)
def test_what_is_no_mask_of_these_labels_is_refused(values: list[float], labels: int, message: str) -> None:
    array = np.array(values)
    with pytest.raises(InputError, match=message):
        checked_labels(array.astype(np.uint8) if array.dtype.kind == "i" and array.min() >= 0 else array, labels, "m")


def test_masks_saved_as_rgb_are_read_and_coloured_ones_refused() -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    opaque = np.full_like(grey, 255)
    np.testing.assert_array_equal(grey_of(np.stack([grey, grey, grey], -1), "m"), grey)
    np.testing.assert_array_equal(grey_of(np.stack([grey, grey, grey, opaque], -1), "m"), grey)
    with pytest.raises(InputError, match=r"the mask m is colour-coded \(2 colours\)"):
        grey_of(np.stack([grey, 0 * grey, 255 - grey], -1), "m")


def test_the_transform_keeps_labels_and_names_the_file() -> None:
    mask = MetaTensor(torch.tensor([[[0, 1], [2, 2]]]), meta={"filename_or_obj": "case7.nii.gz"})
    kept = LabelValuesd("label", labels=2)({"label": mask})["label"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept.as_tensor(), mask.as_tensor().float())
    with pytest.raises(InputError, match=r"case7.nii.gz holds 2 labels"):
        LabelValuesd("label")({"label": mask})
    of_rgb = LabelValuesd("label")({"label": torch.tensor([[[0, 255]]] * 3, dtype=torch.uint8)})["label"]
    assert torch.equal(of_rgb, torch.tensor([[[0.0, 1.0]]]))
