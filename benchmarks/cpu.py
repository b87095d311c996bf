"""Seconds of the networks alone, one slice at a time, and the processor's peak for convolutions."""

from __future__ import annotations

import copy
import importlib.util
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import measure, peers, volumes
from monai_r2unet.bundle import find_bundle
from monai_r2unet.inference.config import InferenceConfig
from monai_r2unet.inference.engines import OpenVINONetwork
from monai_r2unet.inference.precision import fastest_type, run_fast
from monai_r2unet.networks.weights import load_weights

CPU = torch.device("cpu")


def lung_network() -> nn.Module:
    """The lung bundle's network with its weights, in plain form: float32, NCHW, layer by layer."""
    bundle = find_bundle("lung")
    network: nn.Module = InferenceConfig(bundle.root, "cpu").get_parsed_content("network_def")
    load_weights(network, bundle.weights, bundle.weights_sha256)
    return network.eval()


class Ours(nn.Module):
    """A network as run by the package."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(memory_format=torch.channels_last)

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
    openvino: dict[str, Any] | None = None
    if importlib.util.find_spec("openvino") is not None:
        started = time.perf_counter()
        engine = OpenVINONetwork(reference)
        engine(images[:1])
        openvino = {"version": version("openvino"), "seconds_until_first_slice": time.perf_counter() - started}
        openvino |= agreement(reference, engine, images)
        candidates["ours_openvino"] = slice_by_slice(engine, images)
    peak = {
        name: job
        for dtype in dict.fromkeys((torch.float32, fastest_type(CPU)))
        for name, job in measure.convolutions(CPU, dtype, shrink=8 if tiny else 1).items()
    }
    seconds = measure.interleaved(candidates | {name: job for name, (_, job) in peak.items()}, rounds)
    return {
        "image": [side, side],
        "slices": count,
        "batch_size": 1,
        "rounds": rounds,
        "gflop": {name: measure.gflop(network, images[:1]) for name, network in plain.items()},
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in plain.items()},
        "seconds": {name: seconds[name] for name in candidates},
        "peak": {name: {"gflop": gflop, "seconds": seconds[name]} for name, (gflop, _) in peak.items()},
        "ours_against_reference": agreement(reference, ours, images),
        "openvino": openvino,
    }


@torch.inference_mode()
def agreement(reference: nn.Module, other: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    """The difference between two networks' probabilities and masks on the same images."""
    expected, got = (torch.sigmoid(network(images).float()) for network in (reference, other))
    return {
        "largest_difference_of_probability": float((expected - got).abs().max()),
        "pixels": expected.numel(),
        "pixels_that_differ": int(((expected >= 0.5) != (got >= 0.5)).sum()),
    }


def slice_by_slice(network: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """A job that runs the network on each image."""

    @torch.inference_mode()
    def job() -> None:
        for image in images.split(1):
            network(image)

    return job
