"""Train and test on STARE as in the paper: 20 times, each time without the photograph that is then segmented.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.stare_leave_one_out WORK

Each of the 20 trainings is the bundle's own, starting from the shipped DRIVE weights; the best epoch and the threshold
are chosen on the two validation photographs of its fold. The bundle's own `evaluating` then measures the photograph
that was left out, in one pass and patch by patch, with the weights rounded to half precision, as shipped. The same
command resumes an interrupted run. Writes

- `benchmarks/results/stare_test.json`: the measures of every photograph and their means;
- `benchmarks/results/stare_leave_one_out.zip`: `<photograph>.webp`, the vessel probabilities, so that anyone with the
  data can measure again without training 20 networks: 255 times their square root, with lossy compression that changes
  the AUC by about 0.0003;
- `benchmarks/results/stare_training.jsonl`: the training record of the shipped weights (the first fold's).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

from benchmarks import measure
from benchmarks.average_weights import rounded
from benchmarks.collect import collect_training
from benchmarks.measure_photographs import PATCH, evaluation, prepare, run, seconds
from benchmarks.records import REPOSITORY, RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import sha256, write_json, written_whole

START = "bundles/drive/models/model.pt"
SCHEDULE = ("--init_weights", START, "--epochs", "8", "--lr", "0.001")
WEIGHTS, MAP = "model_half.pt", "probabilities.webp"  # in each fold's folder of WORK
PARTS = ("inside_fov", "whole_image")


def main() -> None:
    """Train the missing networks, measure, write."""
    parser = argparse.ArgumentParser(description="STARE, leave one out.")
    parser.add_argument("work", type=Path, help="folder for the data and 20 trainings, kept to resume")
    work = parser.parse_args().work.resolve()
    prepared = work / "data"
    if not prepared.exists():
        prepare("stare", Path(os.environ["MONAI_R2UNET_DATA"]) / "stare", prepared)
    names = sorted(folder.name for folder in (prepared / "leave_out").iterdir())
    for name in names:
        if not (work / name / "results.json").exists():
            run(*training_command(str(prepared / "leave_out" / name), str(work / name)), "--resume", "auto")
    folds = [measured(prepared / "leave_out" / name, work / name) for name in names]

    write_maps({name: (work / name / MAP).read_bytes() for name in names}, RESULTS / "stare_leave_one_out.zip")
    command = " ".join(("python", *training_command("DATA", "OUT")))
    collect_training("stare", names[0], work / names[0], command, RESULTS)
    means = {way: {part: mean(folds, way, part) for part in PARTS} for way in ("one_pass", "patch_by_patch")}
    config = json.loads((REPOSITORY / "bundles/stare/configs/evaluate.json").read_text())
    photographs = [load_datalist(str(prepared / "leave_out" / name), "test")[0]["image"] for name in names]
    result = {
        "command": "python -m benchmarks.stare_leave_one_out WORK",
        "schedule": list(SCHEDULE),
        "init_weights_sha256": sha256(REPOSITORY / START),
        "weights_sha256": sha256(work / names[0] / WEIGHTS),
        "weights_leave_out": names[0],
        "mirror": config["mirror"],
        "device": "cpu",
        **measure.machine(),
        **means,
        "auc_patch_by_patch_minus_one_pass": means["patch_by_patch"]["inside_fov"]["auc"]
        - means["one_pass"]["inside_fov"]["auc"],
        "seconds": seconds(Segmenter("stare", "cpu", weights=work / names[0] / WEIGHTS), photographs),
        "folds": folds,
    }
    write_json(result, RESULTS / "stare_test.json")
    print(f"written: {RESULTS / 'stare_test.json'}")


def measured(data: Path, out: Path) -> dict[str, Any]:
    """A network's result on its left-out photograph, stored in ``out`` and not computed again."""
    kept = out / "measured.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    torch.save(rounded(torch.load(out / "model.pt", weights_only=True)), out / WEIGHTS)
    weights = ("--ckpt_path", str(out / WEIGHTS))
    threshold = evaluation("stare", data, out / "validation", *weights, "--split", "validation")["best_threshold"]
    (entry,) = load_datalist(str(data), "test")
    _, probabilities = Segmenter("stare", "cpu", weights=out / WEIGHTS)(entry["image"], probabilities=True)
    grey = np.round(255 * np.sqrt(sitk.GetArrayFromImage(probabilities))).astype(np.uint8)
    Image.fromarray(grey).save(out / MAP, quality=60, method=6)
    chosen = (*weights, "--threshold", str(threshold))
    patches = (*chosen, "--window_size", str(PATCH))
    ways = {
        "one_pass": evaluation("stare", data, out / "one_pass", *chosen),
        "patch_by_patch": evaluation("stare", data, out / "patch_by_patch", *patches),
    }
    result = {
        "photograph": data.name,
        "threshold": threshold,
        "best_epoch": json.loads((out / "results.json").read_text())["best_epoch"],
        **{way: {part: found[part]["pooled"] for part in PARTS} for way, found in ways.items()},
    }
    write_json(result, kept)
    return result


def write_maps(maps: Mapping[str, bytes], path: Path) -> None:
    """Write images into one archive; the same images make the same file."""
    with written_whole(path, ".tmp") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in maps.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.webp"), content)


def training_command(data: str, out: str) -> tuple[str, ...]:
    """The arguments for Python."""
    config = ("--config_file", "bundles/stare/train.json")
    return ("-m", "monai.bundle", "run", "training", *config, "--dataset_dir", data, *SCHEDULE, "--output_dir", out)


def mean(folds: list[dict[str, Any]], way: str, part: str) -> dict[str, float]:
    """The mean of the photographs' measures."""
    measures = [fold[way][part] for fold in folds]
    return {
        name: statistics.fmean(one[name] for one in measures)
        for name, value in measures[0].items()
        if isinstance(value, float)
    }


if __name__ == "__main__":
    main()
