"""Figures of a training and its segmentations, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_r2unet.images.agreement import AGREEMENT, agreement_colours

__all__ = ["agreement_legend", "best_median_worst", "learning_curve", "overlays", "roc_and_precision_recall"]


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "monai-r2unet[train]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def agreement_legend(figure: Any) -> None:
    """Explain the colours of :func:`agreement_colours` below a Matplotlib figure."""
    pyplot = _pyplot()
    handles = [
        pyplot.Rectangle((0, 0), 1, 1, color=np.asarray(colour) / 255.0, label=name)
        for name, colour in AGREEMENT.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def learning_curve(
    history: Sequence[Mapping[str, float]], key_metric: str, path: Path, labels: Sequence[str] = ()
) -> None:
    """Draw training loss and validation metric over the epochs.

    Args:
        history: One row per epoch: ``epoch``, ``train_loss`` and, if the epoch was validated, ``key_metric``.
        key_metric: Name of the validation metric.
        path: Path of the PNG file.
        labels: Names of labels with a curve of their own, ``key_metric`` with ``_`` and the name.
    """
    pyplot = _pyplot()
    figure, loss_axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    loss_axis.plot([row["epoch"] for row in history], [row["train_loss"] for row in history], "C0.-")
    loss_axis.set_xlabel("epoch")
    loss_axis.set_ylabel("training loss", color="C0")
    loss_axis.set_ylim(bottom=0)
    loss_axis.xaxis.get_major_locator().set_params(integer=True)
    validated = [row for row in history if key_metric in row]
    metric_axis = loss_axis.twinx()
    metric_axis.plot([row["epoch"] for row in validated], [row[key_metric] for row in validated], "C1.-")
    metric_axis.set_ylabel(key_metric.replace("_", " "), color="C1")
    for number, label in enumerate(labels, 2):
        curve = [row.get(f"{key_metric}_{label}", np.nan) for row in validated]
        metric_axis.plot([row["epoch"] for row in validated], curve, f"C{number}--", linewidth=1, label=label)
    if labels:
        metric_axis.legend(loc="lower right", frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def roc_and_precision_recall(
    curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float], Sequence[float]]]],
    observer: tuple[float, float, float] | None,
    path: Path,
) -> None:
    """Draw ROC and precision-recall curves side by side.

    Args:
        curves: Legend entry -> curves of one colour, each as false positive rates, sensitivities, precisions.
        observer: The same three values of a mask, drawn as a point.
        path: Path of the PNG file.
    """
    pyplot = _pyplot()
    figure, (roc, recall) = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for number, (name, lines) in enumerate(curves.items()):
        for line, (rates, sensitivities, precisions) in enumerate(lines):
            style = {"color": f"C{number}", "linewidth": 1, "label": name if line == 0 else None}
            roc.plot(rates, sensitivities, **style)
            recall.plot(sensitivities, precisions, **style)
    if observer is not None:
        roc.plot(observer[0], observer[1], "k+", label="second observer")
        recall.plot(observer[1], observer[2], "k+", label="second observer")
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    recall.set(xlabel="sensitivity (recall)", ylabel="precision", aspect="equal")
    for axis, place in ((roc, "lower right"), (recall, "lower left")):
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axis.grid(alpha=0.3)
        axis.legend(loc=place, frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def best_median_worst(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The cases with the highest, median and lowest ``dice``, with titles; all cases if there are fewer than three."""
    ranked = sorted(cases, key=lambda one: -one["dice"])
    if len(ranked) < 3:
        return [*zip(("best", "worst"), ranked, strict=False)]
    return [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]


def overlays(examples: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw slices with their masks, one per column: the image above, the agreement with the reference below.

    Args:
        examples: (title, slice) pairs; a slice is a mapping with ``image`` (X, Y) or (X, Y, 3) from 0 to 1, ``label``
            and ``prediction`` (X, Y), ``dice`` and ``name``.
        path: Path of the PNG file; nothing is written without examples.
    """
    if not examples:
        return
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        2, len(examples), figsize=(3.4 * len(examples), 7), squeeze=False, layout="constrained"
    )
    for column, (title, one) in zip(axes.T, examples, strict=True):
        painted = agreement_colours(one["image"], one["prediction"], one["label"])
        # Arrays are (x, y); the rows of a picture are y.
        column[0].imshow(np.clip(one["image"], 0, 1).swapaxes(0, 1), cmap="gray", vmin=0, vmax=1)
        column[1].imshow(painted.transpose(1, 0, 2))
        column[0].set_title(f"{title}: Dice {one['dice']:.4f}", fontsize=11)
        column[1].set_title(one["name"], fontsize=8)
        for axis in column:
            axis.set_axis_off()
    agreement_legend(figure)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
