"""Where an interrupted training resumes, in one process or several."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_r2unet.errors import InputError, first_line
from monai_r2unet.networks.weights import latest
from monai_r2unet.training.distributed import agree

__all__ = ["check_fits", "checkpoint_to_resume", "keep_earlier", "set_aside"]


def checkpoint_to_resume(folder: str | os.PathLike[str], resume: bool | str, epochs: int, epoch_length: int) -> str:
    """Path of the checkpoint from which a training resumes; empty if it starts anew.

    Call it in every process of a job. All get the same answer, even if torchrun restarted some of them and a user
    others.

    Args:
        folder: Folder of the checkpoints; all hosts of a job must see the same one.
        resume: True: resume from the latest checkpoint, which must exist; ``"auto"``: resume if there is one; False:
            start anew, except in a process restarted by torchrun, which acts as with ``"auto"``.
        epochs: Number of epochs of the training.
        epoch_length: Batches per epoch in each process.

    Raises:
        InputError: if there is no checkpoint, it has completed more than ``epochs`` epochs, or its epoch length
            differs.
    """
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    mine = latest(folder) if resume is True or ((resume or restarted) and any(Path(folder).glob("*.pt"))) else ""
    path = agree(mine)
    if path:
        _check(path, epochs, epoch_length)
    return path


def _check(path: str, epochs: int, epoch_length: int) -> None:
    if not Path(path).is_file():
        raise InputError(
            f"the checkpoint {path}, from which another host resumes, does not exist here; choose an output_dir "
            "in a folder that all hosts share"
        )
    trainer = _state(path, "trainer")
    done = trainer["iteration"] // trainer["epoch_length"]
    if done > epochs:
        raise InputError(f"epochs is {epochs}, but {done} epochs are done in {path}; give {done} or more")
    if trainer["epoch_length"] != epoch_length:
        raise InputError(
            f"an epoch has {epoch_length} batches now, but {trainer['epoch_length']} in {path}; resume with the same "
            "data, batch_size and number of processes, or start anew from model.pt with init_weights"
        )


def _state(path: str, part: str) -> dict[str, Any]:
    """A part of a checkpoint.

    Raises:
        InputError: the file is damaged, or not a training checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)[part]
    except Exception as error:  # torch raises many kinds on damaged files
        raise InputError(
            f"{path} is not a training checkpoint, or is damaged ({first_line(error)}): start without resume"
        ) from error
    return state


def check_fits(path: str, network: nn.Module) -> None:
    """Check that a checkpoint holds the parameters of a network, before a training resumes from it.

    Raises:
        InputError: it is that of another network.
    """
    stored = {name: tuple(value.shape) for name, value in _state(path, "model").items()}
    network = getattr(network, "module", network)
    if stored != {name: tuple(value.shape) for name, value in network.state_dict().items()}:
        raise InputError(
            f"the checkpoint {path} is not one of {type(network).__name__} as configured now: resume with the "
            "network_name, recurrences and other options of that training, or start anew without resume"
        )


def keep_earlier(best_weights: Path, results: Iterable[Path]) -> Path | None:
    """Move the weights of an earlier training, with its results, into a folder of their own: ``before_1``, ...

    A new training in the same folder may be worse.

    Args:
        best_weights: Weights of the earlier training; without them nothing is moved.
        results: Its other files; missing ones are left out.

    Returns:
        The folder, beside the weights; None if there was nothing to keep.
    """
    if not best_weights.exists():
        return None
    number = 1
    while (kept := best_weights.with_name(f"before_{number}")).exists():
        number += 1
    kept.mkdir()
    for path in (*results, best_weights):  # the weights last: until they are moved, all of it can be done again
        if path.exists():
            path.rename(kept / path.name)
    return kept


def set_aside(folder: str | os.PathLike[str]) -> None:
    """Rename the checkpoint folder of an earlier training to ``..._before`` when a new training starts in its place.

    Otherwise a restart of the new training could mistake them for its own.
    """
    folder = Path(folder)
    if any(folder.glob("*.pt")):
        before = folder.with_name(f"{folder.name}_before")
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
