"""The Ignite handler that shows the segmentation of a few validation slices in TensorBoard, epoch after epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.data import IterableDataset

from monai_r2unet.images.agreement import agreement_colours
from monai_r2unet.metrics.labels import decide, reference_of
from monai_r2unet.training.examples import displayable, slice_name

__all__ = ["ValidationImages"]


class ValidationImages:
    """Write some slices or photographs of every validation to TensorBoard, always the same ones.

    Each is one picture, ``validation/NAME``: the image and, to its right, the image with the agreement of prediction
    and label painted over it (:func:`~monai_r2unet.images.agreement.agreement_colours`). MONAI's
    ``TensorBoardImageHandler`` shows only slices of an epoch's last batch. Nothing is written if the validation uses
    random patches.

    Args:
        log_dir: Folder of TensorBoard's event files.
        count: Number of slices, evenly spaced over those that this process validates.
        threshold: A pixel is foreground at or above this probability; of several labels the most probable counts.
    """

    def __init__(self, log_dir: str, count: int = 3, threshold: float = 0.5) -> None:
        self.log_dir = log_dir
        self.count = count
        self.threshold = threshold
        self._writer: Any = None
        self._seen = 0
        self._chosen: set[int] = set()

    def attach(self, validator: Engine) -> None:
        """Show slices of ``validator``, whose output holds ``image``, ``pred`` (probabilities) and ``label``."""
        validator.add_event_handler(Events.STARTED, self._started)
        validator.add_event_handler(Events.ITERATION_COMPLETED, self._iterated)
        validator.add_event_handler(Events.COMPLETED, self._completed)

    def close(self) -> None:
        """Close the file; a later validation opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _started(self, validator: Engine) -> None:
        loader = validator.state.dataloader
        total = 0 if isinstance(loader.dataset, IterableDataset) else len(loader.sampler)
        count = min(self.count, total)
        self._seen, self._chosen = 0, {(2 * number + 1) * total // (2 * count) for number in range(count)}

    def _iterated(self, validator: Engine) -> None:
        if not self._chosen:
            return
        for item, drawn in zip(validator.state.output, validator.state.batch, strict=True):
            if self._seen in self._chosen:
                self._write(f"validation/{slice_name(drawn)}", item, validator.state.epoch)
            self._seen += 1

    def _write(self, tag: str, item: dict[str, Any], epoch: int) -> None:
        if self._writer is None:
            # Created only when needed: it starts a thread and a file.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.log_dir)
        image = displayable(torch.as_tensor(item["image"]))
        pred = torch.as_tensor(item["pred"])
        masks = decide(pred, self.threshold), reference_of(torch.as_tensor(item["label"]), pred)
        prediction, label = (mask[0].cpu().numpy() for mask in masks)
        plain = agreement_colours(image, np.zeros_like(label), np.zeros_like(label))
        painted = agreement_colours(image, prediction, label)
        # Arrays are (x, y); the rows of a picture are y.
        self._writer.add_image(tag, np.concatenate([plain, painted]).swapaxes(0, 1), epoch, dataformats="HWC")

    def _completed(self, validator: Engine) -> None:
        if self._writer is not None:
            self._writer.flush()
