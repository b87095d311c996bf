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
    widths = [max(12, len(title)) for title in columns]
    titles = (f"{title:>{wide}}" for title, wide in zip(columns, widths, strict=True))
    lines = ["  ".join([f"{'measure':<{width}}", *titles])]
    for name in names:
        values = [column.get(name) for column in columns.values()]
        texts = ["-" if value is None or value != value else format(value, ".4f") for value in values]
        cells = [f"{text:>{wide}}" for text, wide in zip(texts, widths, strict=True)]
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return "\n".join([*lines, JACCARD_NOTE])


def format_summary(summary: Mapping[str, Any]) -> str:
    """The table of `summarize`: pooled over pixels beside the mean over images; or those of `summarize_labels`."""
    if "labels" in summary:
        return _format_labels(summary)
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


def _format_labels(summary: Mapping[str, Any]) -> str:
    """The mean over labels next to each label, the Dice of each image, and the confusion table."""
    labels: Mapping[str, Any] = summary["labels"]
    first = next(iter(labels.values()))
    count = len(first["cases"])
    names = list(summary["mean"]["pooled"])
    columns = {"mean": summary["mean"]["pooled"]}
    columns |= {label: {name: part["pooled"][name] for name in names} for label, part in labels.items()}
    lines = [
        f"{count} image{'s' if count != 1 else ''}, {first['pooled']['pixels']} pixels, {len(labels)} labels, pooled:",
        format_measures(columns),
    ]
    if count > 1:
        lines += ["", f"Dice of each image ({', '.join(labels)}):"]
        for cases in zip(*(part["cases"] for part in labels.values()), strict=True):
            lines.append("  ".join(["", cases[0]["name"], *(f"{case['dice']:.4f}" for case in cases)]))
    titles = summary["confusion"]["labels"]
    width = max(12, *(len(title) for title in titles))
    lines += ["", "Pixels by reference (rows) and prediction (columns):"]
    lines.append("  ".join(f"{title:>{width}}" for title in ["", *titles]))
    for title, row in zip(titles, summary["confusion"]["pixels"], strict=True):
        lines.append("  ".join([f"{title:>{width}}", *(f"{number:>{width}}" for number in row)]))
    return "\n".join(lines)
