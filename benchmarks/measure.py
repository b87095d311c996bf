"""Methods of the speed benchmarks: alternating candidates, complete processes with their memory, and machine details.

Result files hold every sample; `benchmarks.tables` computes medians and ratios from them.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from monai_r2unet.provenance import processor_name, versions

# A process inherits its parent's peak memory, so a small one stands in between: this script holds torch.
_LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - started
if done.returncode:
    sys.exit(f"{' '.join(sys.argv[1:])}: exit code {done.returncode}\\n{done.stderr}")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": peak}))
"""


def machine() -> dict[str, Any]:
    """The conditions of a measurement: versions, processor, threads."""
    return {
        "versions": versions(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, *, wait: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Run every candidate once per round, starting each round with another one.

    A temporary slowdown of the machine thus affects all of them; the first round is a discarded warm-up.

    Args:
        candidates: Name -> function to time.
        rounds: Number of rounds that count.
        wait: Called before each reading of the clock, for asynchronous devices.

    Returns:
        Name -> seconds of each round.
    """
    names = list(candidates)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            wait()
            started = time.perf_counter()
            candidates[name]()
            wait()
            if turn:
                samples[name].append(time.perf_counter() - started)
    return samples


def run_process(command: Sequence[str | Path]) -> dict[str, float]:
    """Run a command to its end: wall and CPU seconds from start to exit, and peak resident memory in bytes.

    Raises:
        RuntimeError: if it fails, with its output.
    """
    words = [sys.executable, "-S", "-E", "-c", _LAUNCHER, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def segment(image: Path, mask: Path, report: Path, *options: str, bundle: str = "lung") -> dict[str, Any]:
    """Run `monai-r2unet segment` as a process; the figures of `run_process` and the seconds of its own report."""
    arguments = ["segment", image, mask, "--bundle", bundle, "--device", "cpu", "--report", report, "--overwrite"]
    measured: dict[str, Any] = run_process([sys.executable, "-m", "monai_r2unet", *arguments, *options])
    return {**measured, "stages": json.loads(report.read_text())["seconds"]}


def gflop(network: nn.Module, image: torch.Tensor) -> float:
    """Floating-point operations of one forward pass in 10^9 (a multiplication and addition count as two)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / 1e9


def convolutions(
    device: torch.device, dtype: torch.dtype, *, batch: int = 1, shrink: int = 1
) -> dict[str, tuple[float, Callable[[], object]]]:
    """Plain 3x3 convolutions, large enough to reach the device's peak: name -> (GFLOP, function to run).

    Args:
        device: Device to run on.
        dtype: Type of images and weights.
        batch: Number of images at a time.
        shrink: Divisor of the image sides, for a trial run.
    """
    found: dict[str, tuple[float, Callable[[], object]]] = {}
    for channels, side in ((64, 256), (128, 128), (256, 64)):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
        image = torch.rand(batch, channels, side // shrink, side // shrink, device=device, dtype=dtype)
        count = gflop(conv, image)
        for layout in (torch.contiguous_format, torch.channels_last):
            job = _inference(copy.deepcopy(conv).to(memory_format=layout), image.to(memory_format=layout))
            found[f"{str(dtype)[6:]} {channels}x{side}x{side} {str(layout)[6:]}"] = (count, job)
    return found


def _inference(network: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def job() -> object:
        return network(image)

    return job
