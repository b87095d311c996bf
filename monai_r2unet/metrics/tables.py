"""Results as files and as text: what was measured, with what, said the same way everywhere."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from monai_r2unet.atomic import written_whole

__all__ = ["format_extent", "format_measures", "format_summary", "processor_name", "versions", "write_json"]

JACCARD_NOTE = (
    "jaccard is the true Jaccard index; the paper's JSC columns hold its accuracy (docs/explanation/paper_columns.md)."
)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in ("monai-r2unet", "monai", "numpy", "SimpleITK"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout that is not installed
            found[package] = "not installed"
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    if "openvino" in sys.modules:  # where it is the engine
        found["openvino"] = version("openvino")
    if sys.modules.get("onnxruntime") is not None:  # of one of several packages
        found["onnxruntime"] = sys.modules["onnxruntime"].__version__
    return found


def processor_name() -> str:
    """What the processor calls itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``content`` whole or not at all: into a temporary file beside ``path``, which then takes its place.

    Measures that do not exist, NaN, become ``null``, because JSON has no NaN.
    """
    text = json.dumps(_without_nan(content), indent=2, default=str, allow_nan=False)
    with written_whole(Path(path), ".tmp") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def format_extent(voxels: int | None, millilitres: float | None) -> str:
    """How much was found, in columns: voxels and mL of a volume, pixels of a flat picture, which has no mL."""
    return f"{voxels} pixels" if millilitres is None else f"{voxels} voxels\t{millilitres:.1f} mL"


def format_measures(columns: Mapping[str, Mapping[str, float | None]]) -> str:
    """A table of measures, a row each, with a column for each way of aggregating them.

    Args:
        columns: title of the column -> measure -> value; ``None`` or a missing value prints as ``-``.
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
