"""Slices per second on a GPU for batches of 1 to 256, complete volumes from host array to host mask, and the limits.

Along with the times it records the device's peak, for plain convolutions and for copies in its memory, and the cost of
a
slice: operations, and bytes read and written by the network run layer by layer. Together with the time for which the
device was busy, they show whether arithmetic, memory or kernel launches are the limit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import measure, volumes
from benchmarks.cpu import Ours, lung_network
from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle
from monai_r2unet.images.reading import read_image

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def measure_speed(*, tiny: bool, device: str = "cuda:0") -> dict[str, Any]:
    """Interleaved rounds for each batch size, then complete volumes; the warm-up (with compilation) is not counted."""
    where = torch.device(device)
    rounds, side, batches = (1, 64, (1, 2)) if tiny else (10, 256, (1, 2, 4, 8, 16, 32, 64, 128, 256))
    wait = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    reference = lung_network().to(where)
    image = volumes.sample_slices(1, side)[0].to(where)
    networks = {
        str(dtype)[6:]: copy.deepcopy(reference).to(dtype, memory_format=torch.channels_last) for dtype in TYPES
    }
    networks["ours"] = Ours(reference)

    seconds: dict[str, dict[str, list[float]]] = {}
    for batch in batches:
        passes = 1 if tiny else max(1, 64 // batch)
        jobs = {name: repeated(network, image.expand(batch, -1, -1, -1), passes) for name, network in networks.items()}
        try:
            rows = measure.interleaved(jobs, rounds, wait=wait)
        except torch.OutOfMemoryError:
            print(f"gpu: batches of {batch} do not fit into the device's memory")
            break
        seconds[str(batch)] = {name: [s / (passes * batch) for s in row] for name, row in rows.items()}

    peak = {
        name: job
        for dtype in TYPES
        for name, job in measure.convolutions(where, dtype, batch=2 if tiny else 64, shrink=8 if tiny else 1).items()
    }
    peak_seconds = measure.interleaved({name: job for name, (_, job) in peak.items()}, rounds, wait=wait)
    block = torch.zeros(1 << (20 if tiny else 30), dtype=torch.uint8, device=where)
    copies = measure.interleaved({"copy": block.clone}, rounds, wait=wait)["copy"]
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
        "image": [side, side],
        "rounds": rounds,
        "seconds_per_slice": seconds,
        "gflop_per_slice": measure.gflop(reference, image),
        "bytes_per_slice": {str(dtype)[6:]: traffic(networks[str(dtype)[6:]], image.to(dtype)) for dtype in TYPES[:2]},
        "peak": {name: {"gflop": gflop, "seconds": peak_seconds[name]} for name, (gflop, _) in peak.items()},
        "copy": {"bytes": 2 * block.numel(), "seconds": copies},
        "busy": busy(networks["ours"], image.expand(2 if tiny else 32, -1, -1, -1), wait),
        "volume": whole_volume(device, rounds, wait, tiny=tiny),
    }


def typed(images: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """The images with the network's parameter type, channels-last."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    return images.to(dtype, memory_format=torch.channels_last)


def repeated(network: nn.Module, images: torch.Tensor, passes: int) -> Callable[[], object]:
    """A job of several forward passes."""
    images = typed(images, network)

    @torch.inference_mode()
    def job() -> None:
        for _ in range(passes):
            network(images)

    return job


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write; views count as none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, torch.Tensor))
        return out


def traffic(network: nn.Module, image: torch.Tensor) -> int:
    """Bytes read and written by one forward pass, operation by operation."""
    with torch.no_grad(), Traffic() as counted:
        network(image)
    return counted.bytes


def busy(network: nn.Module, images: torch.Tensor, wait: Callable[[], object]) -> dict[str, Any]:
    """The share of a forward pass in which the device works, and its kernels; from torch's profiler, warmed up."""
    job = repeated(network, images, 4)
    job()
    wait()
    seconds = measure.interleaved({"pass": job}, 1, wait=wait)["pass"][0]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if images.is_cuda else [])]
    with profile(activities=activities) as profiler:
        job()
        wait()
    kernels = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    kernels.sort(key=lambda event: event.self_device_time_total, reverse=True)
    return {
        "batch": len(images),
        "seconds": seconds,
        "seconds_of_kernels": sum(event.self_device_time_total for event in kernels) / 1e6,
        "kernels": sum(event.count for event in kernels),
        "longest": [{"name": event.key[:80], "seconds": event.self_device_time_total / 1e6} for event in kernels[:8]],
    }


def whole_volume(device: str, rounds: int, wait: Callable[[], object], *, tiny: bool) -> dict[str, Any]:
    """Seconds from an int16 array of 512x512x300 in host memory to its mask in host memory, for several batch sizes."""
    count, scale, batches = (2, 1, (1, 2)) if tiny else (300, 2, (1, 8, 16, 32, 64, 128))
    sample = read_image(find_bundle("lung").root / "sample" / "images" / volumes.SAMPLE)
    array = sitk.GetArrayFromImage(sample).astype(np.int16)
    array = array[np.arange(count) % len(array)].repeat(scale, axis=1).repeat(scale, axis=2)
    segmenter = Segmenter("lung", device=device)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([sample.GetSpacing()[0] / scale, sample.GetSpacing()[1] / scale, sample.GetSpacing()[2]])
    default = segmenter.inferer.batch_size

    def job(batch: int) -> Callable[[], object]:
        def run() -> None:
            segmenter.inferer.batch_size = batch
            stages.setdefault(str(batch), []).append(segmenter.run(image).seconds)

        return run

    stages: dict[str, list[dict[str, float]]] = {}
    seconds = measure.interleaved({str(batch): job(batch) for batch in sorted({*batches, default})}, rounds, wait=wait)
    return {"size": list(image.GetSize()), "default_batch": default, "seconds": seconds, "stages": stages}
