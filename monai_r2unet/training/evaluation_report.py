"""The Ignite handler that measures an evaluation and reports on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_r2unet.errors import InputError
from monai_r2unet.files import write_json
from monai_r2unet.images.label_values import checked_labels
from monai_r2unet.metrics.labels import decide, evaluate_labels, summarize_labels
from monai_r2unet.metrics.measures import CaseMeasures, evaluate_case, pooled_roc, summarize
from monai_r2unet.metrics.tables import format_summary
from monai_r2unet.provenance import versions

__all__ = ["EvaluationReport"]


class Labelled:
    """The measures of several labels, image by image."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.cases: list[list[CaseMeasures]] = []
        self.tables: list[torch.Tensor] = []

    def add(self, cases: list[CaseMeasures], table: torch.Tensor) -> None:
        """Add an image."""
        self.cases.append(cases)
        self.tables.append(table)

    def summary(self) -> dict[str, Any]:
        """The summary of all images."""
        return summarize_labels(self.cases, self.tables, self.labels)


class EvaluationReport:
    """Measure every case of an evaluation, write ``evaluation.json`` and print its table.

    If the cases have a field of view, there are two results, ``inside_fov`` and ``whole_image``; otherwise there is a
    single, unnamed one.

    Args:
        output_dir: Folder of the result.
        describe: Facts to write beside the measures (weights, data, device, ...).
        threshold: A voxel is foreground at or above this probability.
        exact_auc: Keep every probability for the exact ROC AUC, 4 bytes per pixel, instead of a histogram.
        find_threshold: Also report the threshold with the highest pooled Dice, inside the field of view if there is
            one. For validation data only: choosing the threshold on test data is optimistic.
        labels: Names of the labels, if there are several: each is measured by itself, with the mean over labels and the
            confusion table. Thresholds are then not used.
    """

    def __init__(
        self,
        output_dir: str,
        describe: Mapping[str, Any] | None = None,
        threshold: float = 0.5,
        exact_auc: bool = False,
        find_threshold: bool = False,
        labels: Sequence[str] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.describe = dict(describe or {})
        self.threshold = threshold
        self.exact_auc = exact_auc
        self.find_threshold = find_threshold and len(labels) < 2
        self.labels = tuple(labels)
        self.cases: list[CaseMeasures] = []
        self.cases_inside: list[CaseMeasures] = []
        self.labelled = Labelled(self.labels)
        self.labelled_inside = Labelled(self.labels)

    def attach(self, evaluator: Engine) -> None:
        """Report on ``evaluator``, whose output holds ``pred`` (probabilities) and ``label`` on the image's grid.

        Its batch may hold ``fov``, the masks of the field of view.
        """
        evaluator.add_event_handler(Events.STARTED, self._started)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        evaluator.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, evaluator: Engine) -> None:
        self.cases.clear()
        self.cases_inside.clear()
        self.labelled = Labelled(self.labels)
        self.labelled_inside = Labelled(self.labels)

    def _measure(self, evaluator: Engine) -> None:
        for item, drawn in zip(evaluator.state.output, evaluator.state.batch, strict=True):
            pred, label = torch.as_tensor(item["pred"]), torch.as_tensor(item["label"])
            image = str(item["image"].meta["filename_or_obj"])
            where = getattr(drawn["label"], "meta", {}).get("filename_or_obj", "label")
            values = checked_labels(label.as_subclass(torch.Tensor).cpu().numpy(), max(1, len(self.labels)), where)
            label = torch.from_numpy(values).to(pred.device)
            # A bundle that does not load fields of view leaves their paths.
            fov = drawn["fov"] if isinstance(drawn.get("fov"), torch.Tensor) else None
            for what, mask in (("label", label), ("fov", fov)):
                if mask is not None and pred.shape[1:] != mask.shape[1:]:
                    reference = drawn[what].meta["filename_or_obj"]
                    raise InputError(
                        f"image {image} has shape {tuple(pred.shape[1:])} but its {what} {reference} has "
                        f"{tuple(mask.shape[1:])}; both must lie on the same grid"
                    )
            if len(self.labels) > 1:
                self._measure_labels(Path(image).name, pred, label, fov)
                continue
            for cases, valid in ((self.cases, None), (self.cases_inside, fov)):
                if cases is self.cases or valid is not None:
                    cases.append(
                        evaluate_case(
                            Path(image).name,
                            pred >= self.threshold,
                            label,
                            probabilities=pred,
                            valid=valid,
                            exact=self.exact_auc,
                        )
                    )

    def _measure_labels(self, name: str, pred: torch.Tensor, label: torch.Tensor, fov: torch.Tensor | None) -> None:
        if len(pred) != len(self.labels) + 1:
            raise InputError(
                f"the network gives {len(pred)} channels, expected {len(self.labels) + 1}, the background and each of "
                f"{', '.join(self.labels)}: correct out_channels of the network, or the labels"
            )
        mask = decide(pred, self.threshold)
        for measured, valid in ((self.labelled, None), (self.labelled_inside, fov)):
            if measured is self.labelled or valid is not None:
                measured.add(
                    *evaluate_labels(
                        name, mask, label, self.labels, probabilities=pred, valid=valid, exact=self.exact_auc
                    )
                )

    def _completed(self, evaluator: Engine) -> None:
        if len(self.labels) > 1:
            total, inside = len(self.labelled.cases), len(self.labelled_inside.cases)
        else:
            total, inside = len(self.cases), len(self.cases_inside)
        if inside and inside != total:
            raise InputError(
                f"{inside} of {total} images have a field of view in the data list; "
                "add the missing ones or remove them all"
            )
        if len(self.labels) > 1:
            summary = whole = self.labelled.summary()
            pooled = whole["mean"]["pooled"]
        else:
            summary = whole = summarize(self.cases)
            pooled = whole["pooled"]
        if inside:
            of_inside = self.labelled_inside.summary() if len(self.labels) > 1 else summarize(self.cases_inside)
            summary = {"inside_fov": of_inside, "whole_image": whole}
            text = "\n\n".join(f"{name}: {format_summary(part)}" for name, part in summary.items())
        else:
            text = format_summary(summary)
        # For code that runs the evaluator as an engine, such as a federated client.
        evaluator.state.metrics.update({name: value for name, value in pooled.items() if value is not None})
        self.output_dir.mkdir(parents=True, exist_ok=True)
        facts = {**self.describe, "threshold": self.threshold, "versions": versions()}
        roc = pooled_roc(self.cases_inside or self.cases) if self.find_threshold else None
        if roc is not None:
            facts["best_threshold"] = roc.best_threshold
            text += f"\n\nBest threshold for these cases: {facts['best_threshold']:.4f}"
        write_json({**facts, **summary}, self.output_dir / "evaluation.json")
        print(f"{text}\nResult: {self.output_dir / 'evaluation.json'}")
