"""Scores of unlabelled images, and the choice of the next image to label."""

from __future__ import annotations

import logging
import time
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from label_server.segmentation import Segmentation
from label_server.uncertainty import uncertainty
from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256
from monai_r2unet.images.reading import read_image

__all__ = ["MostUncertain", "Uncertainty"]

logger = logging.getLogger(__name__)


class Uncertainty(ScoringMethod):
    """Write the `uncertainty` of every image without a final label into its datastore entry.

    Images already scored with the current weights keep their score.

    Args:
        task: Inference task whose network is used.
        key: Key of the score in the entry; ``KEY_weights`` is the checksum of the weights used.
    """

    def __init__(self, task: Segmentation, key: str) -> None:
        super().__init__(f"Uncertainty of {task.bundle.name} by test-time augmentation")
        self.task = task
        self.key = key

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score all images, or at most ``request["max_samples"]`` of them, on ``request["device"]``."""
        images = sorted(datastore.get_unlabeled_images())
        if not self.task.bundle.weights.is_file():  # before the first training
            return {"total": len(images), "skipped": len(images), "executed": 0, "scores": {}}
        weights = sha256(self.task.get_path())
        todo = [name for name in images if datastore.get_image_info(name).get(f"{self.key}_weights") != weights]
        todo = todo[: int(request.get("max_samples") or len(todo))]
        scores: dict[str, float] = {}
        for name in todo:
            path = datastore.get_image_uri(name)
            try:
                scores[name] = uncertainty(self.task.segmenter(request.get("device")), read_image(path))
            except InputError as error:
                logger.warning("%s has no score: %s", name, error)
                continue
            datastore.update_image_info(name, {self.key: scores[name], f"{self.key}_weights": weights})
        return {"total": len(images), "skipped": len(images) - len(todo), "executed": len(scores), "scores": scores}


class MostUncertain(Strategy):
    """Choose the image with the highest score among those without a final label; images without a score come last.

    An image given to someone within the last hour is postponed, so that two people do not label the same one.

    Args:
        bundle: Name of the bundle whose uncertainty counts.
        key: Key of the score in the datastore's entries.
    """

    HOUR = 3600.0

    def __init__(self, bundle: str, key: str) -> None:
        super().__init__(f"The image with the highest uncertainty of {bundle}")
        self.key = key

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The id and score of the chosen image; ``None`` if all images are labelled."""
        notes = {name: datastore.get_image_info(name) for name in datastore.get_unlabeled_images()}
        if not notes:
            return None

        def rank(name: str) -> tuple[bool, float, str]:
            given = notes[name].get("strategy", {}).get(request["strategy"], {}).get("ts", 0)
            return time.time() - given < self.HOUR, -notes[name].get(self.key, -1.0), name

        chosen = min(notes, key=rank)
        return {"id": chosen, "uncertainty": notes[chosen].get(self.key)}
