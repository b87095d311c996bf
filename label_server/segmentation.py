"""Inference: a `Segmenter` as a MONAI Label task, so that its masks equal those of the command line."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from monai_r2unet import Segmenter
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.masks import MASK_ENDINGS, check_mask_source, write_mask
from monai_r2unet.images.reading import read_image_with_notes

__all__ = ["Segmentation"]


class Segmentation(InferTask):
    """Segment an image of the datastore, or one sent by the client.

    Args:
        bundle: The server's own copy, whose ``models`` folder training writes to.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={label["name"]: label["value"] for label in bundle.labels},
            dimension=3 if bundle.image_format["num_channels"] == 1 else 2,
            description=bundle.metadata.get("description", ""),
        )
        self.bundle = bundle
        self._loading = threading.Lock()
        self._loaded: tuple[tuple[str, Path, int], Segmenter] | None = None

    def is_valid(self) -> bool:
        """Always: clients take the labels of valid tasks, and the first ones are drawn before there are weights."""
        return True

    def get_path(self, validate: bool = True) -> str:
        """Path of the current weights."""
        return str(self.bundle.weights)

    def config(self) -> dict[str, Any]:
        """The client's options: device, weights in the ``models`` folder, and the scale if the bundle uses one."""
        scale = {"scale": ""} if "fov_diameter_px" in self.bundle.image_format.get("scale", {}) else {}
        return {"device": device_list(), "model_filename": weights_files(self.bundle), **scale}

    def info(self) -> dict[str, Any]:
        """The description for clients: names and values of the labels, and facts for which MONAI Label has no place."""
        return {
            **super().info(),
            "version": self.bundle.metadata.get("version", ""),
            "label_colors": {label["name"]: label["colour"] for label in self.bundle.labels},
            "intended_use": self.bundle.metadata.get("intended_use", ""),
            "limits": self.bundle.metadata.get("limits", ""),
        }

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment ``request["image"]``, a path.

        ``request["scale"]`` is for fundus photographs whose field of view cannot be found: a factor, or the diameter of
        the field of view in pixels, such as ``"1400px"``; if missing or empty, the field of view is found
        automatically.

        Returns:
            Path of the mask, in the format of ``request["result_extension"]`` or else that of the image (PNG for a
            photograph); and the information for the client.
        """
        try:
            return self._segment(request)
        except InputError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error

    def _segment(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        source = request["image"]
        if not isinstance(source, str):
            raise InputError(f"the image is a {type(source).__name__}, expected the name of one: send it as a file")
        if not source:
            raise InputError("there is no such image in the datastore: choose another, or send it as a file")
        ending = request.get("result_extension") or self._ending(source)
        if not ending.endswith(MASK_ENDINGS):
            raise InputError(f"result_extension is {ending!r}, expected one of {', '.join(MASK_ENDINGS)}")
        started = time.perf_counter()
        image, notes = read_image_with_notes(source)
        read = time.perf_counter()
        segmenter = self.segmenter(request.get("device"), request.get("model_filename"))
        check_mask_source(ending, bundle=self.bundle, source=source)
        result = segmenter.run(image, scale=request.get("scale") or None)
        segmented = time.perf_counter()
        with tempfile.NamedTemporaryFile(suffix=ending, delete=False) as file:  # deleted by the server once it is sent
            target = file.name
        write_mask(result.mask, target, bundle=self.bundle, source=source, overwrite=True)
        written = time.perf_counter()
        seconds = {"read": read - started, **result.seconds, "write": written - segmented, "total": written - started}
        return target, {
            "label_names": self.labels,
            "label_colors": self.info()["label_colors"],
            "voxels": result.voxels,
            "millilitres": result.millilitres,
            "warnings": notes + result.warnings,
            "latencies": {step: round(value, 3) for step, value in seconds.items()},
        }

    def segmenter(self, device: Any = None, weights: Any = None) -> Segmenter:
        """The bundle with the given weights on the given device, reloaded only if either has changed.

        Args:
            device: The client's name for the device; the first of a list counts; ``None`` for the GPU if there is one.
            weights: A file in the ``models`` folder; the first of a list counts; ``None`` for ``model.pt``.

        Raises:
            InputError: if there is no such file.
        """
        name = weights[0] if isinstance(weights, list) and weights else weights or self.bundle.weights.name
        if not self.bundle.weights.is_file():
            raise InputError(
                f"the bundle {self.bundle.name!r} has no weights yet: draw and save the labels of some images, then "
                "train it"
            )
        if name not in weights_files(self.bundle):
            raise InputError(f"there are no weights {name!r}, choose one of: {', '.join(weights_files(self.bundle))}")
        path = self.bundle.weights.with_name(name)
        key = (str(name_to_device(device)), path, path.stat().st_mtime_ns)
        with self._loading:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = None  # never two networks at a time
                self._loaded = (key, Segmenter(self.bundle.root, key[0], path, trust_bundle=True))
            return self._loaded[1]

    def _ending(self, source: str) -> str:
        if self.dimension == 2:
            return ".png"
        return next((ending for ending in MASK_ENDINGS if source.lower().endswith(ending)), ".nii.gz")


def weights_files(bundle: Bundle) -> list[str]:
    """Names of the weights in a bundle's ``models`` folder, starting with the current ones, ``model.pt``."""
    names = sorted(path.name for path in bundle.weights.parent.glob("*.pt"))
    return sorted(names, key=lambda name: name != bundle.weights.name)
