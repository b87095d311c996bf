"""How the speed benchmarks measure: candidates in turn, whole processes with their memory, and on what machine.

Result files hold every sample; medians and ratios are made from them by `benchmarks.tables`.
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

# A process inherits the peak memory of the one that starts it, so a small one stands between: this script holds torch.
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
    """What a measurement depends on: versions, processor, threads."""
    return {
        "versions": versions(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, *, wait: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Run every candidate once a round, each round starting with another one.

    What slows the machine down for a while then meets all of them; the first round warms up and is not kept.

    Args:
        candidates: name -> what to time.
        rounds: kept rounds.
        wait: called before each look at the clock, for a device that works on its own.

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
        RuntimeError: if it fails; with what it said.
    """
    words = [sys.executable, "-S", "-E", "-c", _LAUNCHER, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def segment(image: Path, mask: Path, report: Path, *options: str) -> dict[str, Any]:
    """Run `monai-r2unet segment` as a process; `run_process`'s figures and the seconds of its own report."""
    arguments = ["segment", image, mask, "--bundle", "lung", "--device", "cpu", "--report", report, "--overwrite"]
    measured: dict[str, Any] = run_process([sys.executable, "-m", "monai_r2unet", *arguments, *options])
    return {**measured, "stages": json.loads(report.read_text())["seconds"]}


def gflop(network: nn.Module, image: torch.Tensor) -> float:
    """Floating-point operations (two for a multiplication and addition) of one forward pass, in 10^9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / 1e9


def convolutions(
    device: torch.device, dtype: torch.dtype, *, batch: int = 1, shrink: int = 1
) -> dict[str, tuple[float, Callable[[], object]]]:
    """Plain 3x3 convolutions, large enough to show what the device can do at best: name -> (GFLOP, what to run).

    Args:
        device: to run on.
        dtype: of images and weights.
        batch: images at a time.
        shrink: divides the sides of the images, for a trial run.
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
