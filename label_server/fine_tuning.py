"""Training on saved labels, from the current weights or from scratch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list

from label_server.segmentation import weights_files
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.files import write_json

__all__ = ["FineTuning"]

logger = logging.getLogger(__name__)

# The last training runs for the shipped weights used a fifth of the learning rate of the first ones.
FINE_TUNING = 0.2


class FineTuning(BundleTrainTask):
    """Train a bundle with its own ``configs/train.json`` on the images with a final label.

    A bundle without weights is trained from scratch, with its own number of epochs and its own learning rate. The best
    epoch's weights become ``models/model.pt``, which the next inference uses; the previous ones are kept as
    ``models/previous.pt``.

    Args:
        bundle: The server's own copy, which is written to.
        conf: The server's ``--conf`` options.
    """

    def __init__(self, bundle: Bundle, conf: dict[str, str]) -> None:
        super().__init__(str(bundle.root), conf)
        self.bundle = bundle
        self.settings = json.loads((bundle.root / "configs" / "train.json").read_text(encoding="utf-8"))
        self._request: dict[str, Any] = {}

    def config(self) -> dict[str, Any]:
        """The client's options, with their defaults."""
        fine = self._has_weights
        return {
            "device": device_list(),
            "pretrained": fine,
            "max_epochs": 10 if fine else self.settings["epochs"],
            "val_split": 0.2,
            "lr": self.settings["lr"] * (FINE_TUNING if fine else 1),
            "batch_size": self.settings["batch_size"],
            "freeze_norm": fine,
            "multi_gpu": True,
            "gpus": "all",
            "model_filename": weights_files(self.bundle) or [self.bundle.weights.name],
        }

    def stats(self) -> dict[str, Any]:
        """Validation measures from the training that made the current weights; empty before any training."""
        report = self._last / "results.json"
        if not report.is_file():
            return {}
        measured: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        # MONAI Label's Slicer extension shows the Dice if it has this name.
        return {**measured, "best_metric": measured["validation"]["val_dice"]}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and activate the new weights.

        Args:
            request: Values for options in `config` that the client changed.
            datastore: Datastore whose images with a final label are used.

        Raises:
            InputError: if no image has a final label.
            RuntimeError: if the training did not complete.
        """
        self._request = {**self.config(), **request, "tracking": ""}
        started = time.monotonic()
        shutil.rmtree(self._running, ignore_errors=True)
        super().__call__(self._request, datastore)
        report, trained = self._running / "results.json", self._running / "model.pt"
        if not report.is_file():  # written last in a training
            raise RuntimeError("the training did not finish; the server's log says why")
        duration = str(timedelta(seconds=round(time.monotonic() - started)))
        write_json({**json.loads(report.read_text(encoding="utf-8")), "total_time": duration}, report)
        if self._has_weights:
            shutil.copyfile(self.bundle.weights, self.bundle.weights.with_name("previous.pt"))
        os.replace(trained, self.bundle.weights)
        shutil.rmtree(self._last, ignore_errors=True)
        self._running.rename(self._last)
        logger.info("New weights: %s", self.bundle.weights)
        return {"model": self.bundle.weights.name}

    @property
    def _has_weights(self) -> bool:
        return self.bundle.weights.is_file()

    @property
    def _running(self) -> Path:
        return self.bundle.root / "eval" / "running"

    @property
    def _last(self) -> Path:
        return self.bundle.root / "eval" / "last"

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[Any]) -> None:
        """Does nothing: the configuration loads ``init_weights`` itself, and refuses weights that do not fit."""

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        chosen = self._request
        weights = chosen["model_filename"]
        weights = weights[0] if isinstance(weights, list) else weights
        pretrained = chosen["pretrained"] and self._has_weights
        overrides |= {
            # The learning-rate schedule is made for this number of epochs.
            "epochs": chosen["max_epochs"],
            "output_dir": str(self._running),
            "init_weights": str(self.bundle.weights.with_name(weights)) if pretrained else None,
            "lr": chosen["lr"],
            "batch_size": chosen["batch_size"],
            "freeze_norm": chosen["freeze_norm"] and pretrained,
            "val_interval": min(self.settings["val_interval"], max(1, int(chosen["max_epochs"]) // 2)),
            "progress_bar": False,
            # Labels that the bundle separates only after its network.
            **({"sides": True} if "sides" in self.settings else {}),
        }
        return overrides

    def _partition_datalist(
        self, datalist: list[dict[str, str]], request: dict[str, Any], shuffle: bool = False
    ) -> tuple[list[dict[str, str]], list[dict[str, str]] | None]:
        """Training and validation images; a single image serves as both; without any, an error is raised."""
        if not datalist:
            raise InputError("no image has a final label to train on: save one first")
        share = float(request["val_split"])
        datalist = sorted(datalist, key=lambda entry: entry["image"])
        if share < 0:  # MONAI Label's way to request the bundle's validation images
            return datalist, None
        count = min(max(1, round(len(datalist) * share)), len(datalist) - 1) if share > 0 else 0
        if count == 0:
            logger.warning("No image is held out for validation: the training images are used for it")
            return datalist, datalist
        return datalist[:-count], datalist[-count:]
