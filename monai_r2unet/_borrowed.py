"""Private names of other packages that we use, each with the reason; no other module uses private names.

If a new release of theirs breaks one of these, repair it here.
"""

from __future__ import annotations

import atexit
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ignite.handlers import Checkpoint
    from monai.handlers import CheckpointSaver

__all__ = ["checkpoints_of", "cpu_has_bfloat16", "remember_best", "run_exit_functions", "running_workflow"]


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX512-BF16 or AMX).

    The public ``torch.cpu.get_capabilities`` came with torch 2.11 (https://github.com/pytorch/pytorch/pull/173433).
    """
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def run_exit_functions() -> None:
    """Run the functions that libraries registered with `atexit`, before the process exits by `os._exit`.

    Python has no public function for it, and we know of no issue that asks for one.
    """
    atexit._run_exitfuncs()


def checkpoints_of(saver: CheckpointSaver) -> tuple[Checkpoint | None, Checkpoint | None]:
    """Ignite's handlers behind MONAI's: one for the best value, one for every few epochs.

    MONAI's ``CheckpointSaver`` accepts no other save handler, and its own does not replace files atomically. We know of
    no issue about it.
    """
    best: Checkpoint | None = saver._key_metric_checkpoint
    interval: Checkpoint | None = saver._interval_checkpoint
    return best, interval


def remember_best(saver: Any, value: float, filename: str) -> None:
    """Restore a ``CheckpointSaver``'s best value and its file, as if it had been written by this process.

    MONAI does not restore them (https://github.com/Project-MONAI/MONAI/issues/1578); they are in the state of Ignite's
    ``Checkpoint`` under a private name (https://github.com/pytorch/ignite/issues/966).
    """
    saver.load_state_dict({"_saved": [(value, filename)]})


def running_workflow() -> Any:
    """MONAI's ``ConfigWorkflow`` that evaluates the expression from which this is called; None if there is none.

    MONAI gives the expressions of a configuration neither its file nor its parser, so it is looked up among the
    callers.
    """
    from monai.bundle import ConfigWorkflow

    frame: FrameType | None = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ConfigWorkflow):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["self"]
