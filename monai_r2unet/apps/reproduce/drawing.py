"""A study's figures: ROC and precision-recall curves, and a network's best, median and worst test cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monai_r2unet.apps.reproduce.records import points_of, read_curve
from monai_r2unet.apps.reproduce.study import OBSERVER, Study, StudyRun
from monai_r2unet.apps.reproduce.workflows import segmented
from monai_r2unet.datasets.datalist import load_datalist
from monai_r2unet.files import written_whole
from monai_r2unet.metrics.figures import best_median_worst, overlays, roc_and_precision_recall

__all__ = ["draw_curves", "draw_overlays"]


def draw_curves(study: Study, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the curves of all networks of a study, one line per seed, and the second observer as a point.

    Args:
        study: The study of the results; folds of one seed are pooled.
        results: Results from :func:`monai_r2unet.apps.reproduce.records.read_results`.
    """
    mine = [result for result in results if result["name"] == study.name and result["protocol"] == study.protocol]
    lines: dict[str, list[tuple[list[float], list[float], list[float]]]] = {}
    for network, t, seed in sorted({(one["network"], one["recurrences"], one["seed"]) for one in mine}):
        same = [one for one in mine if (one["network"], one["recurrences"], one["seed"]) == (network, t, seed)]
        curves = [read_curve(one["path"].parent / one["curve"]) for one in same]
        lines.setdefault(network if t == 2 else f"{network}, t = {t}", []).append(points_of(curves))
    drawn = [
        next(iter(result["test"]["regions"].values()))["pooled"]
        for result in results
        if result["name"] == study.name and result["network"] == OBSERVER
    ]
    if lines:
        observer = [float(np.mean([one[key] for one in drawn])) for key in ("specificity", "sensitivity", "precision")]
        point = (1 - observer[0], observer[1], observer[2]) if drawn else None
        figure = study.out / "figures" / f"{study.name}-{study.protocol}-curves.png"
        with written_whole(figure, ".png") as temporary:
            roc_and_precision_recall(lines, point, temporary)


def draw_overlays(study: Study, runs: Sequence[tuple[StudyRun, Path]], path: Path, device: str) -> None:
    """Draw best, median and worst of the test cases, over all folds, with true and false positives and negatives.

    Args:
        study: The study of the runs.
        runs: Runs of one network and seed, one per fold, with their folders.
        path: Path of the PNG file.
        device: Device on which the three cases are segmented again.
    """
    cases: list[dict[str, Any]] = []
    for run, folder in runs:
        evaluation = json.loads((folder / "test" / "evaluation.json").read_text(encoding="utf-8"))
        measured = zip(evaluation.get("inside_fov", evaluation)["cases"], load_datalist(run.data, "test"), strict=True)
        cases += [
            {"run": run, "folder": folder, "entry": entry, "name": case["name"], "dice": case["dice"]}
            | {"threshold": evaluation["threshold"]}
            for case, entry in measured
            if case["dice"] is not None
        ]
    examples = []
    for title, case in best_median_worst(cases):
        (parts,) = segmented(study, case["run"], case["folder"], device, [case["entry"]])
        examples.append((title, {"name": case["name"], "dice": case["dice"], **_slice(*parts, case["threshold"])}))
    if examples:
        with written_whole(path, ".png") as temporary:
            overlays(examples, temporary)


def _slice(
    image: torch.Tensor, pred: torch.Tensor, label: torch.Tensor, fov: torch.Tensor | None, threshold: float
) -> dict[str, npt.NDArray[Any]]:
    """A picture, or the slice of a volume with the largest reference foreground, ready to be drawn."""
    prediction, reference = pred[0] >= threshold, label[0] > 0
    if fov is not None:
        prediction, reference = prediction & (fov[0] > 0), reference & (fov[0] > 0)
    if reference.ndim == 3:
        most = int(reference.flatten(0, 1).sum(0).argmax())
        image, prediction, reference = image[..., most], prediction[..., most], reference[..., most]
    return {"image": _displayable(image), "prediction": prediction.numpy(), "label": reference.numpy()}


def _displayable(image: torch.Tensor) -> npt.NDArray[np.float32]:
    """Grey values (X, Y), or colours (X, Y, 3), from 0 to 1; the values are clipped by a hundredth at either end."""
    values = image.float().numpy()
    low, high = np.percentile(values, (1, 99)) if len(values) == 1 else (values.min(), values.max())
    shown = np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return np.asarray(shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1))
