"""Seconds of a training step of the lung recipe, as configured by the bundle, and of others on the same batch.

"Plain" is PyTorch without our settings: float32, NCHW, a non-fused optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from torch import nn

from benchmarks import measure, peers, volumes
from monai_r2unet.bundle import find_bundle
from monai_r2unet.networks import R2UNet


def measure_speed(*, tiny: bool) -> dict[str, Any]:
    """Interleaved rounds of one step each: forward, loss, backward, update."""
    rounds, side = (1, 64) if tiny else (15, 256)
    recipe = ConfigParser()
    recipe.read_config(str(find_bundle("lung").root / "configs" / "train.json"))
    recipe["device"] = "cpu"
    loss, inferer = (recipe.get_parsed_content(part) for part in ("loss", "train#inferer"))
    batch_size = recipe.get_parsed_content("batch_size")
    images, masks = volumes.sample_slices(batch_size, side)

    def step(network: nn.Module, optimizer: torch.optim.Optimizer, run: Callable[..., Any]) -> Callable[[], object]:
        network.train()

        def job() -> None:
            optimizer.zero_grad()
            loss(run(images, network), masks).backward()
            optimizer.step()

        return job

    def plain(network: nn.Module) -> Callable[[], object]:
        return step(network, torch.optim.Adam(network.parameters()), SimpleInferer())

    naive = peers.naive_r2unet().to(memory_format=torch.channels_last)
    candidates = {
        "ours": step(*(recipe.get_parsed_content(part) for part in ("network", "optimizer")), inferer),
        "ours_plain": plain(R2UNet()),
        "naive_eq1_with_our_settings": step(naive, torch.optim.Adam(naive.parameters(), fused=True), inferer),
        "naive_eq1": plain(peers.naive_r2unet()),
        "one_kernel": plain(peers.OneKernelR2UNet()),
    }
    return {
        "image": [side, side],
        "batch_size": batch_size,
        "rounds": rounds,
        "seconds": measure.interleaved(candidates, rounds),
    }
