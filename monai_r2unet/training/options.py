"""The options of a training, checked before anything is loaded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from monai_r2unet.errors import InputError, first_line
from monai_r2unet.networks.devices import working_device

if TYPE_CHECKING:
    import torch

__all__ = ["check_training_options"]

MINIMUM_SIDE = 16  # pixels: smaller images leave one pixel a channel after the poolings, which no batch norm takes


def check_training_options(
    *,
    epochs: object,
    batch_size: object,
    val_interval: object,
    resume: object,
    freeze_norm: object,
    lr: object = 1e-3,
    patience: object = 1,
    sizes: Mapping[str, object] | None = None,
    network_name: object = None,
    device: str | torch.device = "cpu",
    output_dir: str | None = None,
) -> None:
    """Reject options that would fail late or mean their opposite: ``false`` on the command line is a non-empty text.

    Args:
        epochs: Number of epochs.
        batch_size: Images in a batch.
        val_interval: Epochs between validations.
        resume: Whether to resume.
        freeze_norm: Whether the statistics of the batch norms are frozen.
        lr: Learning rate.
        patience: Number of validations without improvement after which the training ends.
        sizes: Sides in pixels of what the network sees, by the names of their options; None for the images' own.
        network_name: A class in `monai_r2unet.networks.nets`; None: the configuration names another.
        device: Device of the training.
        output_dir: Folder of the results.

    Raises:
        InputError: a number is not a positive integer, a switch neither True nor False, ``resume`` neither a switch
            nor ``"auto"``; there is no such network or device; or the folder cannot be created.
    """
    numbers = (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("val_interval", val_interval, 1))
    sides = [(name, side, MINIMUM_SIDE) for name, side in (sizes or {}).items() if side is not None]
    for name, number, least in (*numbers, ("patience", patience, 1), *sides):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise InputError(f"{name} is {number!r}, expected a whole number from {least}")
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < math.inf:
        raise InputError(f"lr is {lr!r}, expected a learning rate, a number above 0 such as 0.001")
    for name, switch, other in (("freeze_norm", freeze_norm, ()), ("resume", resume, ("auto",))):
        if not isinstance(switch, bool) and switch not in other:
            choices = " or ".join(("True", "False", *other))
            raise InputError(f"{name} is {switch!r}, expected {choices}, capitalised as in Python")
    _check_network(network_name)
    working_device(device)
    if output_dir is not None:
        _check_folder(Path(output_dir))


def _check_network(name: object) -> None:
    from monai_r2unet.networks import nets

    if name is not None and name not in nets.__all__:
        raise InputError(f"network_name is {name!r}, expected one of {', '.join(sorted(nets.__all__))}")


def _check_folder(folder: Path) -> None:
    """Check that files can be written to a folder that may not exist yet, and leave nothing."""
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(20, "it is a file")
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        tempfile.TemporaryDirectory(prefix=".monai-r2unet-", dir=existing).cleanup()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"output_dir {folder} cannot be written to ({reason}): choose another folder") from error
