"""The record of a run: a JSON file with its measures and everything they depend on, and its curve as a table of counts.

Neither contains paths of this machine, so both can be published; tables and curves are made from them alone.
"""

from __future__ import annotations

import csv
import json
import math
import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from monai_r2unet.apps.reproduce.study import OBSERVER, Study, StudyRun
from monai_r2unet.bundle import find_bundle
from monai_r2unet.datasets.datalist import FILE_NAME, SPLITS, load_datalist
from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256, written_whole
from monai_r2unet.metrics.measures import CaseMeasures
from monai_r2unet.metrics.roc import RocHistogram

__all__ = [
    "Curve",
    "check_comparable",
    "facts_of",
    "points_of",
    "read_curve",
    "read_results",
    "regions_of",
    "write_curve",
]

Curve = list[tuple[float, int, int]]
"""Rows: a threshold, and the background and foreground pixels with probabilities from there up to the next one."""

# Steps of a curve, in 1/4096: uniform, and finer towards 0 and 1, where most of a trained network's probabilities lie.
_STEPS = sorted(
    {*range(0, 4096, 32), *(4096 * torch.linspace(-8.3, 8.3, 167).sigmoid()).round().int().tolist()} - {4096}
)


_FACTS = {"dataset", "name", "protocol", "network", "recurrences", "seed", "fold", "folds", "schedule", "data"}


def facts_of(study: Study, run: StudyRun, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a run: data, network, seed, protocol, schedule, and the scale if the bundle states one."""
    observer = run.network == OBSERVER
    stated = find_bundle(study.dataset).image_format.get("scale", {})
    scale = {key: stated[key] for key in ("fov_diameter_px", "min_extent_mm") if key in stated}
    return {
        "dataset": study.dataset,
        "name": study.name,
        "protocol": None if observer else study.protocol,
        "network": run.network,
        "recurrences": None if observer else study.recurrences,
        "seed": run.seed,
        "fold": run.fold,
        "folds": len(study.folds),
        "schedule": {} if observer else dict(schedule),
        **({} if observer or not scale else {"scale": scale}),
        "data": {
            **{split: len(load_datalist(run.data, split)) for split in SPLITS},
            "datalist_sha256": sha256(run.data / FILE_NAME),
        },
    }


def check_comparable(wanted: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Refuse to add to results that were made, or begun, with other data or another schedule.

    Args:
        wanted: The facts of all runs of a study.
        out: Folder of the study's results.

    Raises:
        InputError: if there are such results, or files that are not results.
    """
    for path in sorted([*(out / "results").glob("[!.]*.json"), *(out / "runs").glob("*/run.json")]):
        there = _read(path)
        for facts in wanted:
            if facts["name"] != there["name"]:
                continue
            same = ["dataset", "folds"]
            same += ["data"] if facts["fold"] == there["fold"] else []
            same += ["schedule"] if facts["protocol"] == there["protocol"] else []
            for key in same:
                if facts[key] != there[key]:
                    raise InputError(
                        f"{path} was made with the {key} {json.dumps(there[key])}, but {json.dumps(facts[key])} is "
                        "asked for: choose another --out, or another --name"
                    )


def regions_of(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``inside_fov`` and ``whole_image``, or only ``whole_image``, of an ``evaluation.json``, without its cases."""
    named = {key: evaluation[key] for key in ("inside_fov", "whole_image") if key in evaluation}
    return {
        region: {key: summary[key] for key in ("pooled", "per_image")}
        for region, summary in (named or {"whole_image": evaluation}).items()
    }


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All results in a folder and its subfolders, sorted by file name, each with ``"path"`` added.

    Raises:
        InputError: a JSON file there is not a result.
    """
    return [{**_read(path), "path": path} for path in sorted(folder.rglob("[!.]*.json"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): remove it to repeat the run") from error
    if not isinstance(content, dict) or not content.keys() >= _FACTS:
        raise InputError(f"{path} is not the result of a run: remove it")
    return content


# ---- curves ----------------------------------------------------------------------------------------------------------


def write_curve(cases: Sequence[CaseMeasures], path: Path) -> None:
    """Write the number of pixels of each class at each probability, over all cases, as CSV."""
    roc: Any = reduce(operator.add, (case.roc for case in cases))
    if not isinstance(roc, RocHistogram):
        scores = torch.cat([roc.background, roc.foreground])
        roc = RocHistogram.of(scores, torch.arange(len(scores)) >= len(roc.background))
    step_of = torch.bucketize(torch.arange(4096), torch.tensor(_STEPS), right=True) - 1
    background, foreground = torch.zeros(2, len(_STEPS), dtype=torch.int64).index_add(1, step_of, roc.counts).tolist()
    with written_whole(path, ".tmp") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("threshold", "background", "foreground"))
        writer.writerows(zip((step / 4096 for step in _STEPS), background, foreground, strict=True))


def read_curve(path: Path) -> Curve:
    """Read the rows written by :func:`write_curve`."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            (float(row["threshold"]), int(row["background"]), int(row["foreground"])) for row in csv.DictReader(file)
        ]


def points_of(curves: Sequence[Curve]) -> tuple[list[float], list[float], list[float]]:
    """False positive rate, sensitivity and precision at every threshold, highest first, of all curves pooled."""
    rows = [(sum(row[1] for row in same), sum(row[2] for row in same)) for same in zip(*curves, strict=True)]
    negatives, positives = (sum(row[column] for row in rows) for column in (0, 1))
    rates, sensitivities, precisions = [0.0], [0.0], [math.nan]
    false, true = 0, 0
    for background, foreground in reversed(rows):
        false, true = false + background, true + foreground
        rates.append(false / max(1, negatives))
        sensitivities.append(true / max(1, positives))
        precisions.append(true / (false + true) if false + true else math.nan)
    return rates, sensitivities, precisions
