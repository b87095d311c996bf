"""Find, describe and open bundles: the only place that knows where they are and what they must contain."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256

__all__ = ["Bundle", "find_bundle", "first_unsafe_part", "is_label", "is_shipped", "list_bundles"]

CONFIGS = ("train", "evaluate", "inference", "multi_gpu_train")  # that every bundle made here has
MOST_LABELS = 255  # values of a mask in uint8, without 0, the background

_PACKAGE = Path(__file__).resolve().parents[1]


def _bundles_folder() -> Path:
    """The shipped bundles: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "bundles"
    return inside if inside.is_dir() else _PACKAGE.parent / "bundles"


@dataclass(frozen=True)
class Bundle:
    """A MONAI bundle on disk.

    Args:
        root: The bundle's folder, which contains ``configs/metadata.json`` and ``configs/inference.json``.
    """

    root: Path

    @property
    def name(self) -> str:
        """The name users type: the folder's name."""
        return self.root.name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """``configs/metadata.json``.

        Raises:
            InputError: if the file is missing or not a JSON object.
        """
        path = self.root / "configs" / "metadata.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"not a bundle: {self.root} has no configs/metadata.json") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"damaged bundle: {path} is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"damaged bundle: {path} holds a {type(content).__name__}, expected an object")
        return content

    @property
    def weights(self) -> Path:
        """Path of the trained weights, which may not exist."""
        return self.root / "models" / "model.pt"

    @property
    def weights_sha256(self) -> str | None:
        """The weights' expected SHA-256, or None if the bundle states none.

        Raises:
            InputError: if the stated value is not a checksum.
        """
        weights = self.metadata.get("weights", {})
        checksum = weights.get("sha256") if isinstance(weights, dict) else weights
        if checksum is not None and not isinstance(checksum, str):
            raise self._lacks("weights > sha256", "a checksum in hexadecimal, or null")
        return checksum

    @property
    def weights_licence(self) -> str:
        """Terms of use of the weights; empty if the bundle states none."""
        weights = self.metadata.get("weights", {})
        return str(weights.get("licence", "")) if isinstance(weights, dict) else ""

    def weights_state(self) -> str:
        """``"present"``, ``"missing"`` or ``"damaged"`` (differs from the bundle's checksum)."""
        if not self.weights.is_file():
            return "missing"
        if self.weights_sha256 is not None and sha256(self.weights) != self.weights_sha256:
            return "damaged"
        return "present"

    @property
    def image_format(self) -> dict[str, Any]:
        """The description of the network's input image in ``metadata.json``.

        Raises:
            InputError: if there is no description.
        """
        image: Any = self.metadata
        for key in ("network_data_format", "inputs", "image"):
            image = image.get(key) if isinstance(image, dict) else None
        if not isinstance(image, dict) or type(image.get("num_channels")) is not int:
            raise self._lacks("network_data_format > inputs > image", "an object with num_channels")
        return image

    @property
    def labels(self) -> list[dict[str, Any]]:
        """The segments, ordered by their values 1, 2, ...: name, colour (RGB, 0 to 255), terminology codes.

        Raises:
            InputError: if a segment lacks its value, name or colour, or the values are not 1, 2, ..., up to 255.
        """
        segments = self.metadata.get("labels")
        if not isinstance(segments, list) or not segments or not all(map(is_label, segments)):
            raise self._lacks("labels", "a list of objects with value, name, colour (three numbers from 0 to 255)")
        segments = sorted(segments, key=lambda segment: segment["value"])
        values = [segment["value"] for segment in segments]
        if values != list(range(1, min(len(segments), MOST_LABELS) + 1)):
            raise self._lacks("labels", f"the values 1, 2, ... (up to {MOST_LABELS}), each once, got {values}")
        return segments

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' names, ordered by their values; empty if the metadata name none.

        Segmenting needs no more; showing or storing labels needs `labels`.
        """
        segments = self.metadata.get("labels")
        if not isinstance(segments, list) or not all(isinstance(one, dict) and "name" in one for one in segments):
            return ()
        if all(map(is_label, segments)):
            segments = self.labels if segments else []
        return tuple(str(segment["name"]) for segment in segments)

    def _lacks(self, what: str, expected: str) -> InputError:
        path = self.root / "configs" / "metadata.json"
        return InputError(f"damaged bundle: {path} lacks a usable entry {what}, expected {expected}")


def is_label(label: Any) -> bool:
    """Whether this is a label as metadata have them."""
    return (
        isinstance(label, dict)
        and type(label.get("value")) is int
        and isinstance(label.get("name"), str)
        and isinstance(label.get("colour"), list)
        and len(label["colour"]) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in label["colour"])
        and all(
            isinstance(code, dict) and all(isinstance(text, str) for text in code.values())
            for code in _codes(label.get("terminology", {}))
        )
    )


def _codes(terminology: Any) -> list[Any]:
    return list(terminology.values()) if isinstance(terminology, dict) else [None]


def list_bundles() -> list[Bundle]:
    """The bundles that come with the package, sorted by name."""
    return [Bundle(path.parents[1]) for path in sorted(_bundles_folder().glob("*/configs/metadata.json"))]


def find_bundle(name: str | os.PathLike[str], *, trusted: bool = False, inference_only: bool = True) -> Bundle:
    """The shipped bundle with this name, or the bundle in this folder.

    Args:
        name: A shipped bundle's name, or the path of a bundle's folder.
        trusted: The user allows the configuration of a bundle that is not shipped to execute code.
        inference_only: Only ``configs/inference.json`` is executed, so that a bundle needs no trust if all in it is
            safe (`monai_r2unet.bundle.safe_config`).

    Raises:
        InputError: if there is no such bundle (the message lists the shipped ones), or it is neither shipped nor
            trusted nor safe.
    """
    shipped = {bundle.name: bundle for bundle in list_bundles()}
    name = os.fspath(name)
    if name in shipped:
        return shipped[name]
    root = Path(name)
    is_bundle = (root / "configs" / "inference.json").is_file()
    if not is_bundle and not any(separator in name for separator in (os.sep, os.altsep) if separator):
        raise InputError(f"unknown bundle {name!r}; available: {', '.join(shipped) or 'none'}")
    if not is_bundle:
        raise InputError(f"{root} is not a bundle, expected a folder with configs/inference.json: check the path")
    bundle = Bundle(root.resolve())
    if trusted or is_shipped(bundle):
        return bundle
    unsafe = first_unsafe_part(bundle) if inference_only else "a training"
    if unsafe is not None:
        raise InputError(
            f"the bundle {bundle.root} does not come with this package, and the configuration of a bundle can execute "
            f"any code (this one has {unsafe}, which is not on the list of safe parts): use one of "
            f"{', '.join(shipped)}",
            remedy="allow this one, if you trust its author,",
            option="trust_bundle",
        )
    return bundle


def first_unsafe_part(bundle: Bundle) -> str | None:
    """The first thing in a bundle's inference configuration for which the bundle needs to be trusted.

    None if it needs no trust, like a shipped bundle.
    """
    if is_shipped(bundle):
        return None
    from monai_r2unet.bundle.safe_config import first_unsafe_of  # its patterns take 20 ms to compile

    return first_unsafe_of(bundle.root / "configs" / "inference.json")


def is_shipped(bundle: Bundle) -> bool:
    """Whether a bundle comes with the package."""
    return bundle.root.resolve() in [shipped.root.resolve() for shipped in list_bundles()]
