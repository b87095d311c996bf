"""Statistics of batch norm that fit the weights they are used with."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn
from torch.optim.swa_utils import update_bn

__all__ = ["NormStatistics"]


class NormStatistics:
    """Re-estimate the running statistics of batch norm at the end of each epoch, before it is validated.

    The running averages lag behind the weights. In an epoch of some twenty steps they describe a network that no longer
    exists, and its validation Dice is anything from 0 to 0.4 although the network has learnt. The last few batches of
    the epoch, run again without gradients, give statistics that fit.

    Args:
        network: The network in training.
        inferer: Runs the network in training.
        batches: Number of the batches.
    """

    def __init__(self, network: nn.Module, inferer: Inferer, batches: int = 5) -> None:
        self.runner = _Runner(network, inferer)
        self.images: deque[torch.Tensor] = deque(maxlen=batches)

    def attach(self, trainer: Engine) -> None:
        """Keep the images of ``trainer``, and estimate the statistics before the handlers attached later."""
        trainer.add_event_handler(Events.ITERATION_STARTED, self._keep)  # MONAI takes batches apart afterwards
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._estimate)

    def _keep(self, trainer: Engine) -> None:
        self.images.append(trainer.state.batch["image"])

    def _estimate(self, trainer: Engine) -> None:
        update_bn(list(self.images), self.runner, device=trainer.state.device)
        self.images.clear()


class _Runner(nn.Module):
    """The network as its inferer runs it: in the same precision, and with the same memory layout."""

    def __init__(self, network: nn.Module, inferer: Inferer) -> None:
        super().__init__()
        self.network = network
        self.inferer = inferer

    def forward(self, images: torch.Tensor) -> Any:
        return self.inferer(images, self.network)
