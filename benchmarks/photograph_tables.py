"""The tables of the model cards for photographs: what the shipped weights do on the test photographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from speed_tables import NotMeasured

from monai_r2unet.reproduce.paper import TABLE_I, TABLE_II

RESULTS = Path(__file__).parent / "results"
MEASURES = ("dice", "jaccard", "sensitivity", "specificity", "accuracy", "auc")
# The paper's columns of what is measured the same way.
PAPER_RETINA = {"dice": "F1", "sensitivity": "SE", "specificity": "SP", "accuracy": "AC", "auc": "AUC"}
PAPER_SKIN = {"dice": "DC", "sensitivity": "SE", "specificity": "SP", "accuracy": "AC"}


def table(name: str) -> str:
    """What the weights of the bundle ``name`` do."""
    path = RESULTS / f"{name}_test.json"
    if not path.exists():
        raise NotMeasured("Not measured yet: the bundle has no weights.")
    result = json.loads(path.read_text())
    rows = skin(result) if name == "skin" else retina(name, result)
    seconds = result["seconds"]
    return "\n".join(
        [
            "| measured | Dice = F1 | Jaccard | sensitivity | specificity | accuracy | AUC |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{seconds['test_photographs']} test photographs, threshold {result['threshold']} from validation; R2U-Net "
            f"with t = 2 and 1.05 million parameters. A photograph takes {seconds['median']:.2f} s from file to mask "
            f"(median; {result['processor']}, {result['threads']} threads). Measured by `{result['command']}`; "
            f"everything else is in `benchmarks/results/{path.name}` of the repository.",
        ]
    )


def retina(name: str, result: Mapping[str, Any]) -> list[str]:
    """Inside the field of view as the literature does, and otherwise."""
    one_pass, patches = result["one_pass"], result["patch_by_patch"]
    paper = TABLE_I[name]["R2UNet"]
    return [
        row("inside the field of view, pooled", one_pass["inside_fov"]["pooled"]),
        row("the same, mean of photographs", one_pass["inside_fov"]["per_image"]["mean"]),
        row("whole photograph, pooled", one_pass["whole_image"]["pooled"]),
        row("inside, patch by patch, pooled", patches["inside_fov"]["pooled"]),
        row("paper, R2U-Net", {ours: paper[theirs] for ours, theirs in PAPER_RETINA.items()}),
    ]


def skin(result: Mapping[str, Any]) -> list[str]:
    """As means of photographs, and pooled."""
    paper = TABLE_II["R2UNet", 3]
    return [
        row("mean of photographs", result["one_pass"]["per_image"]["mean"]),
        row("pooled", result["one_pass"]["pooled"]),
        row("paper, R2U-Net t = 3, its own split", {ours: paper[theirs] for ours, theirs in PAPER_SKIN.items()}),
    ]


def row(title: str, measures: Mapping[str, float | None]) -> str:
    """One line of a Markdown table."""
    found = [measures.get(name) for name in MEASURES]
    return f"| {title} | {' | '.join('-' if value is None else f'{value:.4f}' for value in found)} |"


TABLES = {name: partial(table, name) for name in ("drive", "chase_db1", "skin")}
