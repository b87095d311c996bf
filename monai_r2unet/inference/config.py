"""A bundle's ``configs/inference.json``, resolved part by part, with one sentence for each possible error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

import monai_r2unet.networks  # noqa: F401  # makes them known to MONAI: a bundle may name one R2UNet
from monai_r2unet.errors import InputError, find_input_error, first_line
from monai_r2unet.networks.devices import is_out_of_memory

__all__ = ["InferenceConfig", "blame"]

# The parts of a bundle that a Segmenter needs.
PARTS: dict[str, type] = {
    "network_def": nn.Module,
    "preprocessing": Compose,
    "inferer": Inferer,
    "postprocessing": Compose,
}


class InferenceConfig(ConfigParser):
    """MONAI's parser for a bundle's inference configuration. Resolving it executes its code.

    Args:
        root: The bundle's folder.
        device: A device such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        InputError: if the file is missing or damaged, or lacks a part.
    """

    def __init__(self, root: Path, device: str) -> None:
        super().__init__()
        self.path = root / "configs" / "inference.json"
        if not self.path.is_file():
            raise InputError(f"not a bundle: {root} has no configs/inference.json")
        with self._blamed("cannot be read"):
            self.read_config(str(self.path))
            missing = [name for name in PARTS if name not in self.config]
        if missing:
            raise InputError(f"damaged bundle: {self.path} lacks {', '.join(missing)}: restore or add what is missing")
        self["bundle_root"] = str(root)
        self["device"] = device

    def part(self, name: str) -> Any:
        """Resolve a part of the bundle that a :class:`~monai_r2unet.Segmenter` needs.

        Raises:
            InputError: if the configuration does not define it.
        """
        with self._blamed(f"does not describe a working {name}"):
            found = self.get_parsed_content(name)
        if not isinstance(found, PARTS[name]):
            raise InputError(
                f"damaged bundle: {name} in {self.path} is a {type(found).__name__}, expected a {PARTS[name].__name__}"
            )
        return found

    @contextlib.contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:  # the configuration's code may raise anything
            raise InputError(f"damaged bundle: {self.path} {what} ({first_line(error)})") from error


@contextlib.contextmanager
def blame(bundle: str, part: str) -> Iterator[None]:
    """Attribute errors of a bundle's transforms to the bundle.

    Raises:
        InputError: with the names of the bundle and of its part.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if find_input_error(error) is not None or is_out_of_memory(error):
            raise
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error  # wrapped by MONAI's Compose
        if is_out_of_memory(cause):
            raise
        raise InputError(
            f"the {part} of the bundle {bundle!r} fails on this image ({type(cause).__name__}: {first_line(cause)}): "
            "check its configs/inference.json"
        ) from error
