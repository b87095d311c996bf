"""Weights and checkpoints on disk."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_r2unet.errors import InputError, first_line
from monai_r2unet.files import sha256

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["is_whole", "latest", "load_weights"]


def is_whole(path: Path) -> bool:
    """Whether a file of ``torch.save`` is complete: the directory of its zip archive comes last."""
    return zipfile.is_zipfile(path)


def latest(folder: str | os.PathLike[str]) -> str:
    """Path of the newest complete checkpoint (``*.pt``) in ``folder``.

    Raises:
        InputError: if there is none.
    """
    found = sorted(filter(is_whole, Path(folder).glob("*.pt")), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            f"there is no checkpoint to resume from in {folder}; start a new training",
            remedy="name the folder of the training to resume",
            option="output_dir",
            value="FOLDER",
        )
    return str(found[-1])


def _check_sums(path: Path) -> None:
    """Verify the checksums inside a file of ``torch.save``, which torch does not do itself."""
    if zipfile.is_zipfile(path):  # files of old torch versions have no checksums
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"the checksum of {bad} is wrong")


def _tensors(weights: Any) -> list[tuple[Any, torch.Tensor]]:
    import torch

    named = weights.items() if isinstance(weights, Mapping) else []
    return [(name, value) for name, value in named if isinstance(value, torch.Tensor)]


def load_weights(network: nn.Module, path: str | os.PathLike[str], expected_sha256: str | None = None) -> None:
    """Load a state dict into ``network`` without executing code from the file (``weights_only=True``).

    Args:
        network: The network that receives the weights.
        path: Path of the state dict, as written by ``torch.save``.
        expected_sha256: The file's checksum, verified before anything is read.

    Raises:
        InputError: if the file is missing, does not match its checksum, is not a state dict, or does not fit the
            network.
    """
    import torch  # imported late: it takes seconds, and checksums do not need it

    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"weights not found: {path} does not exist; train the bundle (its docs/README.md says how) or restore the "
            "file"
        )
    if expected_sha256 is not None:
        got = sha256(path)
        if got != expected_sha256:
            raise InputError(
                f"damaged weights: {path} has SHA-256 {got[:12]}..., expected {expected_sha256[:12]}...; "
                "install the package again or restore the file"
            )
    try:
        _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever is wrong with the file is reported below, once
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged files
        raise InputError(
            f"damaged weights: {path} is not a file of tensors saved by torch ({first_line(error)})"
        ) from error
    spoilt = [name for name, value in _tensors(weights) if value.is_floating_point() and not value.isfinite().all()]
    if spoilt:
        raise InputError(
            f"damaged weights: {path} holds numbers that are NaN or infinite (in {spoilt[0]}), so the network would "
            "find nothing; use a checkpoint from before the training diverged"
        )
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"weights do not fit: {path} does not hold the parameters of {type(network).__name__} as configured; "
            "check the network's name and arguments"
        ) from error
