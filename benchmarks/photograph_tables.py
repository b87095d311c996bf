"""The tables of the photograph bundles' model cards: results of the shipped weights on the test photographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.records import RESULTS
from monai_r2unet.apps.reproduce.paper import TABLE_I, TABLE_II

MEASURES = ("dice", "jaccard", "sensitivity", "specificity", "accuracy", "auc")
# The paper's columns that are measured in the same way.
PAPER_RETINA = {"dice": "F1", "sensitivity": "SE", "specificity": "SP", "accuracy": "AC", "auc": "AUC"}
PAPER_SKIN = {"dice": "DC", "sensitivity": "SE", "specificity": "SP", "accuracy": "AC"}


def table(name: str) -> str:
    """The results of the bundle ``name``."""
    path = RESULTS / f"{name}_test.json"
    result = json.loads(path.read_text())
    seconds = result["seconds"]
    copies = ", averaged over the photograph and its three mirror images" if result["mirror"] else ""
    return "\n".join(
        [
            "| measured | Dice = F1 | Jaccard | sensitivity | specificity | accuracy | AUC |",
            "|---|---|---|---|---|---|---|",
            *ROWS[name](name, result),
            "",
            f"{CASES[name](result)}; R2U-Net with t = 2 and 1.05 million parameters{copies}. A photograph takes "
            f"{seconds['median']:.2f} s from file to mask (median; {result['processor']}, {result['threads']} threads)."
            f" Measured by `{COMMANDS[name]}`; everything else is in `benchmarks/results/{path.name}` of the "
            "repository.",
        ]
    )


def overview() -> str:
    """One row per bundle, for the README."""
    lines = ["| bundle | measured | Dice = F1 | Jaccard | AUC | paper, R2U-Net |", "|---|---|---|---|---|---|"]
    for name in ROWS:
        result = json.loads((RESULTS / f"{name}_test.json").read_text())
        what, measures = HEADLINES[name](result)
        cells = " | ".join(f"{measures[key]:.4f}" for key in ("dice", "jaccard", "auc"))
        paper = TABLE_II["R2UNet", 3] if name == "skin" else TABLE_I[name]["R2UNet"]
        theirs = f"DC {paper['DC']:.4f}" if name == "skin" else f"F1 {paper['F1']:.4f}, AUC {paper['AUC']:.4f}"
        lines.append(f"| [`{name}`](bundles/{name}/docs/README.md#results) | {what} | {cells} | {theirs} |")
    return "\n".join(lines)


def retina(name: str, result: Mapping[str, Any]) -> list[str]:
    """Measures inside the field of view, as in the literature, and others."""
    one_pass, patches = result["one_pass"], result["patch_by_patch"]
    return [
        row("inside the field of view, pooled", one_pass["inside_fov"]["pooled"]),
        row("the same, mean of photographs", one_pass["inside_fov"]["per_image"]["mean"]),
        row("whole photograph, pooled", one_pass["whole_image"]["pooled"]),
        row("inside, patch by patch, pooled", patches["inside_fov"]["pooled"]),
        paper_row(name),
    ]


def left_out(name: str, result: Mapping[str, Any]) -> list[str]:
    """Means over the photographs left out one by one, inside the field of view and otherwise."""
    one_pass, patches = result["one_pass"], result["patch_by_patch"]
    return [
        row("inside the field of view, mean of photographs", one_pass["inside_fov"]),
        row("whole photograph, mean of photographs", one_pass["whole_image"]),
        row("inside, patch by patch, mean of photographs", patches["inside_fov"]),
        paper_row(name),
    ]


def paper_row(name: str) -> str:
    """The paper's values for its R2U-Net on the same retina data set."""
    paper = TABLE_I[name]["R2UNet"]
    return row("paper, R2U-Net", {ours: paper[theirs] for ours, theirs in PAPER_RETINA.items()})


def skin(name: str, result: Mapping[str, Any]) -> list[str]:
    """Means over photographs, and pooled."""
    paper = TABLE_II["R2UNet", 3]
    return [
        row("mean of photographs", result["one_pass"]["per_image"]["mean"]),
        row("pooled", result["one_pass"]["pooled"]),
        row("paper, R2U-Net t = 3, its own split", {ours: paper[theirs] for ours, theirs in PAPER_SKIN.items()}),
    ]


def test_set(result: Mapping[str, Any]) -> str:
    """The test set and the threshold."""
    return f"{result['seconds']['test_photographs']} test photographs, threshold {result['threshold']} from validation"


def folds(result: Mapping[str, Any]) -> str:
    """The photographs left out one by one and their thresholds."""
    thresholds = [fold["threshold"] for fold in result["folds"]]
    return (
        f"{len(thresholds)} photographs, each segmented by a network that was trained without it, with a threshold "
        f"({min(thresholds):.2f} to {max(thresholds):.2f}) from its two validation photographs"
    )


def row(title: str, measures: Mapping[str, float | None]) -> str:
    """One line of a Markdown table."""
    found = [measures.get(name) for name in MEASURES]
    return f"| {title} | {' | '.join('-' if value is None else f'{value:.4f}' for value in found)} |"


def pooled(result: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The main result of a retina test set."""
    count = result["seconds"]["test_photographs"]
    return f"{count} test photographs, pooled inside the field of view", result["one_pass"]["inside_fov"]["pooled"]


def mean_left_out(result: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The main result of photographs left out one by one."""
    return f"mean of {len(result['folds'])}, each left out once, inside", result["one_pass"]["inside_fov"]


def mean_lesion(result: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The main result of skin lesions."""
    return f"mean of {result['seconds']['test_photographs']} test images", result["one_pass"]["per_image"]["mean"]


ROWS = {"drive": retina, "chase_db1": retina, "stare": left_out, "skin": skin}
COMMANDS = {name: f"python -m benchmarks.measure_photographs {name}" for name in ROWS}
COMMANDS["stare"] = "python -m benchmarks.stare_leave_one_out WORK"
CASES = {name: folds if name == "stare" else test_set for name in ROWS}
HEADLINES = {"drive": pooled, "chase_db1": pooled, "stare": mean_left_out, "skin": mean_lesion}
BUNDLES = tuple(ROWS)
TABLES = {**{name: partial(table, name) for name in ROWS}, "photographs": overview}
