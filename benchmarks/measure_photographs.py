"""Measure the shipped weights of the photograph bundles, once, on the test photographs of their data sets.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.measure_photographs [drive chase_db1 skin]

Prepares each data set, runs the bundle's own `evaluating` as a user would, and writes
`benchmarks/results/<name>_test.json`:

- pooled and per-photograph measures: for retinas inside the field of view and over the complete photograph;
- for retinas also patch by patch (48x48 pixels, as in the paper), and the resulting difference in AUC;
- the seconds that `Segmenter` takes per photograph: median over all test photographs.

STARE has its own module, `stare_leave_one_out`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.records import REPOSITORY, RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import write_json

# Name of the bundle -> folder of its data set.
SOURCES = {"drive": "drive", "chase_db1": "chase_db1", "skin": "isic2017"}
PATCH = 48  # pixels, as in the paper
TIMED = 50  # photographs


def main() -> None:
    """Measure the requested bundles, each into its own file."""
    parser = argparse.ArgumentParser(description="Measure the weights for photographs.")
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help="all where none is named")
    names = parser.parse_args().bundles or list(SOURCES)
    if unknown := set(names) - set(SOURCES):
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(SOURCES)}")
    data = Path(os.environ["MONAI_R2UNET_DATA"])
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "data"
            prepare(name, data / SOURCES[name], prepared)
            result = {
                "command": f"python -m benchmarks.measure_photographs {name}",
                "weights_sha256": find_bundle(name).weights_sha256,
                "device": "cpu",
                **measure.machine(),
                **measured(name, prepared, Path(folder)),
            }
        RESULTS.mkdir(exist_ok=True)
        write_json(result, RESULTS / f"{name}_test.json")
        print(f"written: {RESULTS / f'{name}_test.json'}")


def prepare(name: str, source: Path, dest: Path, *options: str) -> None:
    """Convert a downloaded data set to a data folder of the bundle ``name``."""
    run("-m", "monai_r2unet", "prepare", name, str(source), str(dest), *options)


def measured(name: str, prepared: Path, work: Path) -> dict[str, Any]:
    """The bundle's evaluation, in one pass and, for retinas, patch by patch; and the seconds per photograph."""
    one_pass = evaluation(name, prepared, work / "one_pass")
    result: dict[str, Any] = {
        "threshold": one_pass["threshold"],
        "mirror": one_pass["mirror"],
        "one_pass": facts(one_pass),
    }
    if "inside_fov" in one_pass:
        patches = evaluation(name, prepared, work / "patches", "--window_size", str(PATCH))
        result["patch_by_patch"] = {
            "patch_size": PATCH,
            "overlap": patches["window_overlap"],
            **facts(patches),
        }
        result["auc_patch_by_patch_minus_one_pass"] = (
            patches["inside_fov"]["pooled"]["auc"] - one_pass["inside_fov"]["pooled"]["auc"]
        )
    photographs = [entry["image"] for entry in load_datalist(str(prepared), "test")]
    return {**result, "seconds": seconds(Segmenter(name, "cpu"), photographs)}


def evaluation(name: str, prepared: Path, out: Path, *options: str) -> dict[str, Any]:
    """The bundle's `evaluation.json` for the test photographs."""
    files = f"['bundles/{name}/train.json','bundles/{name}/configs/evaluate.json']"
    common = ("--config_file", files, "--dataset_dir", str(prepared), "--output_dir", str(out), "--device", "cpu")
    run("-m", "monai.bundle", "run", "evaluating", *common, *options)
    result: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return result


def facts(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The measures, with only the worst of the single photographs."""
    if "inside_fov" in evaluation:
        return {part: summary(evaluation[part]) for part in ("inside_fov", "whole_image")}
    return summary(evaluation)


def summary(part: dict[str, Any]) -> dict[str, Any]:
    """Measures pooled and per photograph, and the five photographs with the smallest Dice."""
    worst = sorted(part["cases"], key=lambda case: case["dice"])[:5]
    return {
        "pooled": part["pooled"],
        "per_image": part["per_image"],
        "worst": [{"name": case["name"], "dice": case["dice"]} for case in worst],
    }


def seconds(segmenter: Segmenter, paths: Sequence[str]) -> dict[str, Any]:
    """Seconds of a loaded and warm segmenter from file to mask, photograph by photograph."""
    segmenter(paths[0])
    samples = []
    for path in paths[:TIMED]:
        started = time.perf_counter()
        segmenter(path)
        samples.append(time.perf_counter() - started)
    return {
        "test_photographs": len(paths),
        "timed": len(samples),
        "median": statistics.median(samples),
        "largest": max(samples),
    }


def run(*arguments: str) -> None:
    """Run Python in the root of the repository and stop at the first failure."""
    subprocess.run([sys.executable, *arguments], check=True, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
