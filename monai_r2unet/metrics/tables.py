"""Measures as text tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_measures", "format_summary"]

JACCARD_NOTE = (
    "jaccard is the true Jaccard index; the paper's JSC columns hold its accuracy (docs/explanation/paper_columns.md)."
)


def format_measures(columns: Mapping[str, Mapping[str, float | None]]) -> str:
    """A table with a row for each measure and a column for each aggregation.

    Args:
        columns: Column title -> measure -> value; ``None`` or a missing value prints as ``-``.
    """
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    width = max([len(name) for name in names] + [len("measure")])
    lines = ["  ".join([f"{'measure':<{width}}", *(f"{title:>12}" for title in columns)])]
    for name in names:
        values = [column.get(name) for column in columns.values()]
        cells = [f"{'-' if value is None or value != value else format(value, '.4f'):>12}" for value in values]
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return "\n".join([*lines, JACCARD_NOTE])


def format_summary(summary: Mapping[str, Any]) -> str:
    """The table of :func:`monai_r2unet.metrics.summarize`: pooled over pixels beside the mean over images."""
    measures = [name for name in summary["pooled"] if name not in ("pixels", "auc_error_bound")]
    columns: dict[str, Mapping[str, float | None]] = {"pooled": {name: summary["pooled"][name] for name in measures}}
    count = len(summary["cases"])
    if count > 1:
        columns["image mean"] = {name: summary["per_image"]["mean"][name] for name in measures}
        columns["image std"] = {name: summary["per_image"]["std"][name] for name in measures}
    lines = [
        f"{count} image{'s' if count != 1 else ''}, {summary['pooled']['pixels']} pixels",
        format_measures(columns),
    ]
    if count > 1:
        lines += ["", "Dice of each image:"]
        lines += [f"  {case['name']}  {case['dice']:.4f}" for case in summary["cases"]]
    return "\n".join(lines)
