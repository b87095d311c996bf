"""Communication between the processes of one command."""

from __future__ import annotations

import time
from datetime import timedelta

import torch
from torch.distributed.rendezvous import rendezvous

__all__ = ["failures_everywhere"]


def failures_everywhere(failed: int) -> int:
    """Sum of the failed cases of all processes under torchrun, after all have finished; otherwise ``failed`` itself.

    torchrun ends every process as soon as one exits with an error, so a process with failures must wait for the others.
    """
    if not torch.distributed.is_torchelastic_launched():
        return failed
    forever = timedelta(days=365)
    store, _, count = next(rendezvous("env://", timeout=forever))
    store.add("failed", failed)
    store.add("finished", 1)
    while store.add("finished", 0) < count:
        time.sleep(0.2)
    return int(store.add("failed", 0))
