"""The tables of speed and memory, from the samples in `benchmarks/results/speed_*.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.records import RESULTS

NETWORKS = {
    "ours": "R2U-Net as `segment` runs it",
    "reference": "the same, plain (float32, NCHW, layer by layer)",
    "ours_openvino": "R2U-Net with `--engine openvino`",
    "naive_eq1": "Eq. (1) unrolled naively",
    "one_kernel": "popular one-kernel form of R2U-Net",
    "basic_unet": "MONAI `BasicUNet`",
    "attention_unet": "MONAI `AttentionUnet`",
    "lungmask_r231": "network of lungmask R231",
}
STEPS = {
    "ours": "lung recipe",
    "ours_plain": "the same network, plain (float32, NCHW, optimiser not fused)",
    "naive_eq1_with_our_settings": "Eq. (1) unrolled naively, with the recipe's settings",
    "naive_eq1": "Eq. (1) unrolled naively, plain",
    "one_kernel": "popular one-kernel form, plain",
}


class NotMeasured(Exception):
    """The result file of a part does not exist."""


def load(part: str) -> dict[str, Any]:
    """The result file of a part of `benchmarks.speed`."""
    path = RESULTS / f"speed_{part}.json"
    if not path.is_file():
        raise NotMeasured(f"Not measured yet: `python -m benchmarks.speed {part}`.")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def times(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Speed ratio: the median over the rounds."""
    return f"{median(s / f for s, f in zip(slow, fast, strict=True)):.2f}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])


def conditions(result: Mapping[str, Any]) -> str:
    """The conditions of a measurement, as half a sentence."""
    threads = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    return f"{result['processor']} ({result['instructions']}), {threads}, torch {result['versions']['torch']}"


def best_gflops(peak: Mapping[str, Mapping[str, Any]], dtype: str) -> float | None:
    """The peak of plain convolutions in a floating-point type, in GFLOP/s."""
    found = [row["gflop"] / min(row["seconds"]) for name, row in peak.items() if name.startswith(dtype)]
    return max(found, default=None)


def networks() -> str:
    """The networks alone on the CPU."""
    result = load("cpu")
    seconds, count = result["seconds"], result["slices"]
    peaks = {dtype: best_gflops(result["peak"], dtype) for dtype in ("float32", "bfloat16")}
    peaks = {dtype: peak for dtype, peak in peaks.items() if peak is not None}
    rows = []
    for name, samples in seconds.items():
        each = median(samples) / count
        gflop = result["gflop"]["reference" if name.startswith("ours") else name]
        shares = [f"{100 * gflop / each / peak:.0f} %" for peak in peaks.values()]
        against = times(seconds["reference"], samples)
        rows.append([NETWORKS[name], f"{1000 * each:.0f}", f"{1 / each:.1f}", against, f"{gflop:.1f}", *shares])
    titles = ["network", "ms per slice", "slices per second", "times as fast as plain", "GFLOP per slice"]
    agreement = result["ours_against_reference"]
    side = " x ".join(map(str, result["image"]))
    return "\n".join(
        [
            table([*titles, *(f"of the {dtype} peak" for dtype in peaks)], rows),
            "",
            f"Slices of {side} pixels one by one, medians of {result['rounds']} interleaved rounds; "
            f"{conditions(result)}. Peak: the fastest plain convolution in the same run, "
            + " and ".join(f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in peaks.items())
            + ". As `segment` runs it, probabilities differ from the plain network's by "
            f"{agreement['largest_difference_of_probability']:.2g} at most, and {agreement['pixels_that_differ']} of "
            f"{agreement['pixels']} pixels of the masks differ." + openvino(result),
        ]
    )


def openvino(result: Mapping[str, Any]) -> str:
    """OpenVINO's start-up cost and its agreement; empty if it was not measured."""
    engine = result["openvino"]
    if engine is None:
        return ""
    ours, faster = (median(result["seconds"][name]) / result["slices"] for name in ("ours", "ours_openvino"))
    started = engine["seconds_until_first_slice"] - ours
    pays = (
        f"and pays off from {math.ceil(started / (ours - faster))} slices on" if faster < ours else "and never pays off"
    )
    return (
        f" OpenVINO {engine['version']} has its first slice {started:.1f} s later {pays}; with it, probabilities "
        f"differ by {engine['largest_difference_of_probability']:.2g} at most, and {engine['pixels_that_differ']} "
        "pixels of the masks differ."
    )


def training() -> str:
    """Training steps on the CPU."""
    result = load("training")
    seconds = result["seconds"]
    rows = [
        [
            STEPS[name],
            f"{median(samples):.2f}",
            f"{result['batch_size'] / median(samples):.1f}",
            times(seconds["naive_eq1"], samples),
        ]
        for name, samples in seconds.items()
    ]
    titles = ["training step", "seconds", "images per second", "times as fast as Eq. (1) naive and plain"]
    side = " x ".join(map(str, result["image"]))
    note = (
        f"Batches of {result['batch_size']} slices of {side} pixels, medians of {result['rounds']} interleaved rounds; "
        f"{conditions(result)}."
    )
    return f"{table(titles, rows)}\n\n{note}"


# Measured process -> (title, input format).
PROCESSES = {
    "ours": ("`segment`", "ours"),
    "ours_openvino": ("`segment --engine openvino`", "ours"),
    "lungmask": ("lungmask", "ours"),
    "ours_stacked": ("`segment`", "ours_stacked"),
}


def end_to_end() -> str:
    """Complete processes, file to file."""
    result = load("end_to_end")
    rows = []
    for name, (title, source) in PROCESSES.items():
        runs = result["runs"].get(name)
        if runs is None:
            continue
        stages = {stage: median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
        total = median(run["seconds"] for run in runs)
        rest = total - sum(stages.values())
        told = ", ".join(f"{stage} {value:.1f}" for stage, value in {**stages, "imports and the rest": rest}.items())
        size = "x".join(map(str, result["sizes"][source]))
        memory = median(run["peak_bytes"] for run in runs) / 1e9
        rows.append([title, f"{size}, {result['formats'][source]}", f"{total:.1f}", told, f"{memory:.2f}"])
    lines = [table(["process", "CT", "seconds", "of which", "peak memory, GB"], rows), ""]
    note = f"Medians of {result['rounds']} rounds; {conditions(result)}."
    if "lungmask" in result["runs"]:
        ours, theirs = ([run["seconds"] for run in result["runs"][name]] for name in ("ours", "lungmask"))
        note += (
            f" `segment` is {times(theirs, ours)} times as fast as lungmask {result['lungmask_versions']['lungmask']}"
        )
        if "ours_openvino" in result["runs"]:
            faster = [run["seconds"] for run in result["runs"]["ours_openvino"]]
            note += f" (with OpenVINO {times(theirs, faster)} times)"
        note += (
            ", which has the larger network, ran with random weights and was given a real mask to post-process "
            "(see `benchmarks/lungmask_process.py`); quality is not compared here."
        )
    return "\n".join([*lines, note])


def photograph() -> str:
    """A large photograph, in process and as a command."""
    result = load("photograph")
    runs = result["runs"]
    stages = {stage: median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
    total = median(run["seconds"] for run in runs)
    parts = {**stages, "imports and the rest": total - sum(stages.values())}
    told = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in parts.items())
    memory = median(run["peak_bytes"] for run in runs) / 1e9
    rows = [
        ["in process, file to mask", f"{median(result['in_process_seconds']):.1f}", "-", "-"],
        ["`segment`, complete process", f"{total:.1f}", told, f"{memory:.2f}"],
    ]
    size = "x".join(map(str, result["size"]))
    note = (
        f"A photograph of {size} pixels with the `{result['bundle']}` bundle; medians of {result['rounds']} rounds; "
        f"{conditions(result)}."
    )
    return f"{table(['way', 'seconds', 'of which', 'peak memory, GB'], rows)}\n\n{note}"


def memory() -> str:
    """Peak memory for increasingly large volumes."""
    result = load("memory")
    side = "x".join(map(str, result["in_plane"]))
    runs = result["runs"]
    rows = [[f"{side}x{run['slices']}", f"{run['peak_bytes'] / 1e9:.2f}", f"{run['seconds']:.0f}"] for run in runs]
    growth = (runs[-1]["peak_bytes"] - runs[0]["peak_bytes"]) / (runs[-1]["slices"] - runs[0]["slices"]) / 1e6
    note = f"{growth:.1f} MB per slice, {result['pixel_type']}; one process each; {conditions(result)}."
    return f"{table(['CT', 'peak resident memory, GB', 'seconds'], rows)}\n\n{note}"


def gpu() -> str:
    """Slices per second and complete volumes on a GPU."""
    result = load("gpu")
    by_batch = result["seconds_per_slice"]
    names = list(next(iter(by_batch.values())))
    rows = [[batch, *(f"{1 / median(row[name]):.0f}" for name in names)] for batch, row in by_batch.items()]
    peaks = {dtype: best_gflops(result["peak"], dtype) or 0.0 for dtype in ("float32", "bfloat16", "float16")}
    fastest = max(1 / median(row["ours"]) for row in by_batch.values())
    copied = result["copy"]["bytes"] / min(result["copy"]["seconds"])
    busy, volume = result["busy"], result["volume"]
    best = min(volume["seconds"], key=lambda batch: median(volume["seconds"][batch]))
    default = median(volume["seconds"][str(volume["default_batch"])])
    gflops = fastest * result["gflop_per_slice"]
    shares = ", ".join(f"{100 * gflops / peak:.0f} % of {peak / 1000:.0f} TFLOP/s in {t}" for t, peak in peaks.items())
    moved = 100 * fastest * result["bytes_per_slice"]["bfloat16"] / copied
    return "\n".join(
        [
            table(["batch", *(f"{name}, slices per second" for name in names)], rows),
            "",
            f"{result['device']}, torch {result['versions']['torch']}; `ours` is what `segment` runs. At its fastest "
            f"it computes {gflops / 1000:.1f} TFLOP/s, against plain convolutions in the same run: {shares}. Run layer "
            f"by layer in bfloat16, that many slices would move {moved:.0f} % of what the device copies in the same "
            f"time ({copied / 1e12:.1f} TB/s). In batches of {busy['batch']} its kernels were busy "
            f"{100 * busy['seconds_of_kernels'] / busy['seconds']:.0f} % of the time.",
            "",
            f"{'x'.join(map(str, volume['size']))} from host array to host mask, warmed up: {default:.2f} s with the "
            f"bundle's batch of {volume['default_batch']}, {median(volume['seconds'][best]):.2f} s with {best}.",
        ]
    )


def summary() -> str:
    """The README's table."""
    rows = []
    cpu, steps, whole, peak = load("cpu"), load("training"), load("end_to_end"), load("memory")
    ours = [run["seconds"] for run in whole["runs"]["ours"]]
    against = "-"
    if "lungmask" in whole["runs"]:
        theirs = [run["seconds"] for run in whole["runs"]["lungmask"]]
        against = f"lungmask: {median(theirs):.0f} s, {times(theirs, ours)} times as long"
    size = "x".join(map(str, whole["sizes"]["ours"]))
    rows.append(
        [f"`segment`, {size} {whole['formats']['ours']} to mask, whole process", f"{median(ours):.1f} s", against]
    )
    longer = median(run["seconds"] for run in whole["runs"]["ours_stacked"])
    size = "x".join(map(str, whole["sizes"]["ours_stacked"]))
    rows.append([f"`segment`, {size} {whole['formats']['ours_stacked']}", f"{longer:.1f} s", "-"])
    seconds = cpu["seconds"]
    rate = cpu["slices"] / median(seconds["ours"])
    plain = f"the same network, plain: {times(seconds['reference'], seconds['ours'])} times as long"
    rows.append([f"network, {'x'.join(map(str, cpu['image']))} slice", f"{rate:.1f} per second", plain])
    rate = steps["batch_size"] / median(steps["seconds"]["ours"])
    naive = f"Eq. (1) unrolled naively: {times(steps['seconds']['naive_eq1'], steps['seconds']['ours'])} times as long"
    rows.append(["training, images", f"{rate:.1f} per second", naive])
    last = peak["runs"][-1]
    size = "x".join(map(str, [*peak["in_plane"], last["slices"]]))
    rows.append([f"peak memory of `segment`, {size}", f"{last['peak_bytes'] / 1e9:.2f} GB", "-"])
    more = "Details and more results: [speed and memory](docs/reference/speed.md)."
    note = f"{conditions(whole)}. {more}"
    return f"{table(['measured', 'result', 'against'], rows)}\n\n{note}"


TABLES = {
    "speed": summary,
    "speed_networks": networks,
    "speed_training": training,
    "speed_end_to_end": end_to_end,
    "speed_photograph": photograph,
    "speed_memory": memory,
    "speed_gpu": gpu,
}
