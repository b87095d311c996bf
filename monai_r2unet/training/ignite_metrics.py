"""The paper's measures as a metric for Ignite engines, which a bundle can name in its JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from monai_r2unet.errors import InputError
from monai_r2unet.metrics.labels import confusion_table, counts_of, decide, mean_over_labels
from monai_r2unet.metrics.measures import MEASURES, ConfusionCounts, confusion, measures_of
from monai_r2unet.metrics.roc import RocHistogram

__all__ = ["SegmentationMetrics"]


class SegmentationMetrics(Metric):
    """All pooled measures as one Ignite metric, for the ``key_metric`` of a MONAI evaluator.

    Attached as ``{"val_dice": SegmentationMetrics(...)}`` it writes every measure, ``val_accuracy`` to ``val_auc``;
    MONAI selects checkpoints by the attached name. ``val_best_threshold`` is the threshold with the highest Dice, to be
    used for segmenting and testing. Counts are summed over all processes.

    Args:
        output_transform: Returns the ``(probabilities, labels)`` of a batch, such as
            ``monai.handlers.from_engine(["pred", "label"])``: each a list of 1 x H x W [x D] tensors or one tensor with
            a leading batch dimension. Probabilities are in [0, 1]; labels are foreground where > 0.
        threshold: A pixel is foreground at or above this probability.
        prefix: Prefix of each measure's name.
        valid_key: Key of the masks of valid pixels in the engine's batch, such as ``"fov"``; None counts every pixel.
        labels: Names of the labels with the values 1, 2, ..., if there are several. Predictions then have a channel for
            the background and one for each label, which sum to 1; the measures are means over the labels, and each
            label's own are added under its name: ``val_dice_liver``. There is no best threshold.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda x: x,
        threshold: float = 0.5,
        prefix: str = "val_",
        valid_key: str | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        """See the class docstring."""
        self.threshold = threshold
        self.prefix = prefix
        self.valid_key = valid_key
        self.labels = tuple(labels) if len(labels) > 1 else ()
        super().__init__(output_transform)  # calls reset

    def reset(self) -> None:
        """Forget all batches."""
        classes = len(self.labels) + 1
        self._confusion = torch.zeros((classes, classes) if self.labels else 4, dtype=torch.int64)
        self._histogram = torch.stack([RocHistogram().counts] * max(1, len(self.labels)))

    def update(self, output: Sequence[Any]) -> None:
        """Count the pixels of a batch: ``(probabilities, labels)`` or ``(probabilities, labels, valid)``.

        Raises:
            InputError: another number of channels, shapes differ, or predictions are not probabilities.
        """
        probabilities, labels = output[:2]
        masks = output[2] if len(output) > 2 else [None] * len(probabilities)
        for scores, label, valid in zip(probabilities, labels, masks, strict=True):
            if self.labels:
                self._update_labels(scores, label, valid)
                continue
            if scores.shape[0] != 1:
                raise InputError(
                    f"Predictions of shape {tuple(scores.shape)} have {scores.shape[0]} channels, expected 1, the "
                    "foreground probability: end the postprocessing with a sigmoid."
                )
            # The histogram comes first: it rejects values that are not probabilities.
            self._histogram[0] += RocHistogram.of(scores, label, valid).counts
            counts = confusion(scores >= self.threshold, label, valid)
            self._confusion += torch.tensor([counts.tp, counts.fp, counts.tn, counts.fn])

    def _update_labels(self, scores: torch.Tensor, label: torch.Tensor, valid: torch.Tensor | None) -> None:
        classes = len(self.labels) + 1
        if scores.shape[0] != classes:
            raise InputError(
                f"Predictions of shape {tuple(scores.shape)} have {scores.shape[0]} channels, expected {classes}, the "
                "background and each label: end the postprocessing with a softmax."
            )
        histograms = [
            RocHistogram.of(scores[value : value + 1], label == value, valid).counts for value in range(1, classes)
        ]
        self._confusion += confusion_table(decide(scores, self.threshold), label, len(self.labels), valid)
        self._histogram += torch.stack(histograms)

    def compute(self) -> dict[str, float]:
        """All `MEASURES`, and ``best_threshold``, with the prefix, over all batches of all processes."""
        # Clones, because the reduction works in place and this process keeps counting its own pixels only.
        table = torch.as_tensor(idist.all_reduce(self._confusion.clone()))
        histogram = torch.as_tensor(idist.all_reduce(self._histogram.clone()))
        if self.labels:
            each = [measures_of(counts_of(table, v), RocHistogram(histogram[v - 1])) for v in range(1, len(table))]
            measures = mean_over_labels(each, table)
            for name, own in zip(self.labels, each, strict=True):
                measures |= {f"{measure}_{name}": value for measure, value in own.items()}
        else:
            counts, roc = ConfusionCounts(*table.tolist()), RocHistogram(histogram[0])
            measures = measures_of(counts, roc) | {"best_threshold": roc.best_threshold}
        return {self.prefix + name: value for name, value in measures.items()}

    def attach(self, engine: Engine, name: str, *args: Any, **kwargs: Any) -> None:
        """Attach to an engine under the name of one of the measures.

        Raises:
            InputError: the metric does not write this name.
        """
        names = [self.prefix + measure for measure in MEASURES]
        if name not in names:
            raise InputError(f"The metric is attached as {name!r}, expected one of {', '.join(names)}: rename it.")
        super().attach(engine, name, *args, **kwargs)

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        """Ignite's hook after a batch; the original only accepts pairs."""
        output = self._output_transform(engine.state.output)
        if self.valid_key is not None:
            batch: Any = engine.state.batch  # decollated, it is a list of dictionaries
            masks = [item[self.valid_key] for item in batch] if isinstance(batch, list) else batch[self.valid_key]
            output = (*output, masks)
        self.update(output)

    def completed(self, engine: Engine, name: str) -> None:
        """Ignite's hook after an epoch; the original forbids a result that contains the attached name."""
        engine.state.metrics.update(self.compute())
