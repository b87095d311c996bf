"""Seconds of the networks alone, a slice at a time, and what convolutions the processor can do at best."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import peers
import torch
import volumes
from torch import nn

from monai_r2unet.bundle import find_bundle
from monai_r2unet.checkpoints import load_weights
from monai_r2unet.inferers import fastest_type, run_fast

CPU = torch.device("cpu")


def lung_network() -> nn.Module:
    """The lung bundle's network with its weights, plain: float32, NCHW, one layer after the other."""
    bundle = find_bundle("lung")
    network: nn.Module = bundle.inference("cpu").get_parsed_content("network_def")
    load_weights(network, bundle.weights, bundle.weights_sha256)
    return network.eval()


class Ours(nn.Module):
    """A network as the package runs it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, float32."""
        return run_fast(self.network, images)


def measure_speed(*, tiny: bool) -> dict[str, Any]:
    """Interleaved rounds of all networks on the same slices, batch 1, and of plain convolutions."""
    rounds, count, side = (1, 1, 64) if tiny else (15, 4, 256)
    images = volumes.sample_slices(count, side)[0]
    reference = lung_network()
    ours = Ours(reference)
    plain = {
        "reference": reference,
        "naive_eq1": peers.naive_r2unet(),
        "one_kernel": peers.OneKernelR2UNet(),
        "basic_unet": peers.basic_unet(),
        "attention_unet": peers.attention_unet(),
    }
    if "LUNGMASK_PYTHON" in os.environ:
        plain["lungmask_r231"] = peers.lungmask_r231(Path(os.environ["LUNGMASK_PYTHON"]))

    candidates = {"ours": slice_by_slice(ours, images)}
    candidates |= {name: slice_by_slice(network.eval(), images) for name, network in plain.items()}
    peak = {
        name: job
        for dtype in dict.fromkeys((torch.float32, fastest_type(CPU)))
        for name, job in measure.convolutions(CPU, dtype, shrink=8 if tiny else 1).items()
    }
    seconds = measure.interleaved(candidates | {name: job for name, (_, job) in peak.items()}, rounds)
    with torch.inference_mode():
        expected, got = (torch.sigmoid(network(images).float()) for network in (reference, ours))
    return {
        "image": [side, side],
        "slices": count,
        "batch_size": 1,
        "rounds": rounds,
        "gflop": {name: measure.gflop(network, images[:1]) for name, network in plain.items()},
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in plain.items()},
        "seconds": {name: seconds[name] for name in candidates},
        "peak": {name: {"gflop": gflop, "seconds": seconds[name]} for name, (gflop, _) in peak.items()},
        "ours_against_reference": {
            "largest_difference_of_probability": float((expected - got).abs().max()),
            "pixels": expected.numel(),
            "pixels_that_differ": int(((expected >= 0.5) != (got >= 0.5)).sum()),
        },
    }


def slice_by_slice(network: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """A job that runs the network on each image."""

    @torch.inference_mode()
    def job() -> None:
        for image in images.split(1):
            network(image)

    return job
