"""Find, describe and open the bundles: the only place that knows where they lie and what a bundle must hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_r2unet.checkpoints import sha256
from monai_r2unet.errors import InputError

__all__ = ["Bundle", "find_bundle", "list_bundles"]

_PACKAGE = Path(__file__).resolve().parent


def _bundles_folder() -> Path:
    """The shipped bundles: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "bundles"
    return inside if inside.is_dir() else _PACKAGE.parent / "bundles"


@dataclass(frozen=True)
class Bundle:
    """A MONAI bundle on disk.

    Args:
        root: its folder, which holds ``configs/metadata.json`` and ``configs/inference.json``.
    """

    root: Path

    @property
    def name(self) -> str:
        """The name users type: that of the folder."""
        return self.root.name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """``configs/metadata.json``.

        Raises:
            InputError: if the file is missing or no JSON.
        """
        path = self.root / "configs" / "metadata.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"not a bundle: {self.root} has no configs/metadata.json") from error
        except json.JSONDecodeError as error:
            raise InputError(f"damaged bundle: {path} is no JSON ({error})") from error
        return content

    @property
    def weights(self) -> Path:
        """Path of the trained weights, whether they are there or not."""
        return self.root / "models" / "model.pt"

    @property
    def weights_sha256(self) -> str | None:
        """The checksum that the weights must have, where the bundle states one."""
        checksum: str | None = self.metadata.get("weights", {}).get("sha256")
        return checksum

    def weights_state(self) -> str:
        """``"present"``, ``"missing"`` or ``"damaged"`` (differs from the bundle's checksum)."""
        if not self.weights.is_file():
            return "missing"
        if self.weights_sha256 is not None and sha256(self.weights) != self.weights_sha256:
            return "damaged"
        return "present"

    @property
    def image_format(self) -> dict[str, Any]:
        """What ``metadata.json`` says of the network's input image."""
        image: dict[str, Any] = self.metadata["network_data_format"]["inputs"]["image"]
        return image

    @property
    def labels(self) -> list[dict[str, Any]]:
        """The segments, in the order of their values 1, 2, ...: name, colour (RGB, 0 to 255), terminology codes."""
        segments: list[dict[str, Any]] = self.metadata["labels"]
        return segments

    def inference(self, device: str) -> ConfigParser:
        """``configs/inference.json``, ready to be resolved for a device such as ``"cpu"`` or ``"cuda:0"``."""
        path = self.root / "configs" / "inference.json"
        if not path.is_file():
            raise InputError(f"not a bundle: {self.root} has no configs/inference.json")
        parser = ConfigParser()
        parser.read_config(str(path))
        parser["bundle_root"] = str(self.root)
        parser["device"] = device
        return parser


def list_bundles() -> list[Bundle]:
    """The bundles that come with the package, by name."""
    return [Bundle(path.parents[1]) for path in sorted(_bundles_folder().glob("*/configs/metadata.json"))]


def find_bundle(name: str) -> Bundle:
    """The shipped bundle of that name.

    Raises:
        InputError: if there is none; the message names those there are.
    """
    bundles = {bundle.name: bundle for bundle in list_bundles()}
    if name not in bundles:
        raise InputError(f"unknown bundle {name!r}; there are: {', '.join(bundles) or 'none'}")
    return bundles[name]
