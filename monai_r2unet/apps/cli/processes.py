"""What several processes of one command tell each other."""

from __future__ import annotations

import time
from datetime import timedelta

import torch
from torch.distributed.rendezvous import rendezvous

__all__ = ["failures_everywhere"]


def failures_everywhere(failed: int) -> int:
    """The failed cases of all processes that torchrun started, once all have finished; elsewhere ``failed`` itself.

    torchrun ends every process as soon as one leaves with an error, so that whoever has failures must wait for the
    others.
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
