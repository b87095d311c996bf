"""Weights and checkpoints on disk."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from monai_r2unet.errors import InputError, first_line

if TYPE_CHECKING:
    from torch import nn

__all__ = ["is_whole", "latest", "load_weights", "sha256"]


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def is_whole(path: Path) -> bool:
    """Whether a file of ``torch.save`` was written to its end, where the directory of its zip archive lies."""
    return zipfile.is_zipfile(path)


def latest(folder: str | os.PathLike[str]) -> str:
    """Path of the newest checkpoint (``*.pt``) in ``folder`` that was written to its end.

    Raises:
        InputError: if there is none.
    """
    found = sorted(filter(is_whole, Path(folder).glob("*.pt")), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            f"there is no checkpoint to resume from in {folder}; start without --resume, or name "
            "the --output_dir of the training to go on with"
        )
    return str(found[-1])


def load_weights(network: nn.Module, path: str | os.PathLike[str], expected_sha256: str | None = None) -> None:
    """Load a state dict into ``network``, without executing anything in the file (``weights_only=True``).

    Args:
        network: receives the weights.
        path: of the state dict, as written by ``torch.save``.
        expected_sha256: checksum of the file, compared before anything is read from it.

    Raises:
        InputError: if the file is missing, differs from its checksum, is no state dict, or does not fit the network.
    """
    import torch  # here, because it takes seconds and checksums do without it

    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights not found: {path} does not exist; train the bundle or restore the file")
    if expected_sha256 is not None:
        got = sha256(path)
        if got != expected_sha256:
            raise InputError(
                f"damaged weights: {path} has SHA-256 {got[:12]}..., expected {expected_sha256[:12]}...; "
                "install the package again or restore the file"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever is wrong with the file is told below, once
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged files
        raise InputError(
            f"damaged weights: {path} is not a file of tensors saved by torch ({first_line(error)})"
        ) from error
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"weights do not fit: {path} does not hold the parameters of {type(network).__name__} as configured; "
            "check the network's name and arguments"
        ) from error
