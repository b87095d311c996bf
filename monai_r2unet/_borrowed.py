"""What this package uses of others beside their public interfaces, with the reason; nothing else in it does.

A release of theirs that breaks one of these is mended here.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ignite.handlers import Checkpoint
    from monai.handlers import CheckpointSaver

__all__ = ["checkpoints_of", "cpu_has_bfloat16", "remember_best", "run_exit_functions"]


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, AVX512-BF16 or AMX.

    The public ``torch.cpu.get_capabilities`` came with torch 2.11 (https://github.com/pytorch/pytorch/pull/173433).
    """
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def run_exit_functions() -> None:
    """Run what libraries registered with `atexit`, for a process that then leaves by `os._exit`.

    Python offers nothing public for it.
    """
    atexit._run_exitfuncs()


def checkpoints_of(saver: CheckpointSaver) -> tuple[Checkpoint | None, Checkpoint | None]:
    """Ignite's handlers behind MONAI's: that of the best value, and that of every few epochs.

    MONAI's ``CheckpointSaver`` takes no save handler of one's own, and its own does not replace files atomically.
    """
    best: Checkpoint | None = saver._key_metric_checkpoint
    interval: Checkpoint | None = saver._interval_checkpoint
    return best, interval


def remember_best(saver: Any, value: float, filename: str) -> None:
    """Make a ``CheckpointSaver`` know the best value so far and its file, as if it had written that in this process.

    The state that it loads is that of Ignite's ``Checkpoint``, whose one entry has a private name.
    """
    saver.load_state_dict({"_saved": [(value, filename)]})
