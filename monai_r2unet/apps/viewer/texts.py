"""The texts of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

__all__ = [
    "bundle_card",
    "bundle_problem",
    "bundle_title",
    "describe_densities",
    "describe_device",
    "describe_image",
    "describe_progress",
    "describe_size",
    "readable",
    "typed",
]

GIB = 2**30
# Displayed name, name in the worker's answer, unit.
DENSITIES = [
    ("Mean", "mean_hu", "HU"),
    ("Median", "median_hu", "HU"),
    ("Standard deviation", "std_hu", "HU"),
    ("15th percentile", "p15_hu", "HU"),
    ("Below -950 HU", "laa950_percent", "%"),
    ("-500 to 100 HU", "opacified_percent", "%"),
    ("Reaches the border", "touches_border", ""),
]


def readable(text: str) -> str:
    r"""Text that can be sent to the page: bytes of a file name that are not UTF-8 as ``\xfc``."""
    return re.sub("[\ud800-\udfff]", lambda byte: f"\\x{ord(byte[0]) & 0xFF:02x}", text)


def typed(text: str) -> str:
    r"""The file name that a `readable` one stands for."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), text)


def describe_image(image: sitk.Image) -> str:
    """Size and spacing of an image."""
    size = " × ".join(map(str, image.GetSize()))  # noqa: RUF001
    if image.GetDimension() == 2:
        return f"{size} pixels, {'colour' if image.GetNumberOfComponentsPerPixel() > 1 else 'grey'}"
    return f"{size} voxels of {' × '.join(f'{s:.3g}' for s in image.GetSpacing())} mm"  # noqa: RUF001


def describe_device(device: dict[str, Any]) -> str:
    """A device's name, with its free memory if known."""
    if device.get("free_bytes") is None:
        return str(device["name"])
    return f"{device['name']}, {device['free_bytes'] / GIB:.1f} of {device['total_bytes'] / GIB:.1f} GB free"


def describe_progress(done: int, total: int, elapsed: float, remaining: float | None) -> str:
    """Progress, elapsed time and estimated time left, in seconds."""
    to_go = "" if remaining is None else f", about {remaining:.0f} s to go"
    return f"Slice {done} of {total}, {elapsed:.0f} s{to_go}"


def describe_size(voxels: int, millilitres: float | None) -> str:
    """Size of the result: mL for a volume, pixels for a picture."""
    return f"{voxels:,} pixels" if millilitres is None else f"{millilitres:,.1f} mL"


def describe_densities(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A table of the worker's densities: the labels above its columns, and the name and texts of each row."""
    rows = [
        {"name": name, "texts": [_number(numbers[key], unit) for numbers in measured.values()]}
        for name, key, unit in DENSITIES
    ]
    return {"labels": list(measured), "rows": rows if measured else []}


def _number(value: float | list[str] | None, unit: str) -> str:
    if value is None:
        return "-"
    return ", ".join(value) or "nowhere" if isinstance(value, list) else f"{value:,.1f} {unit}"


def bundle_problem(bundle: dict[str, Any]) -> str:
    """The reason why a bundle cannot be used; empty if it can."""
    return {
        "missing": "This bundle has no trained weights yet: train it, or choose another one.",
        "damaged": "The weights of this bundle are damaged: install the package again.",
    }.get(bundle["weights"], "")


def bundle_title(bundle: dict[str, Any]) -> str:
    """A bundle's name (for an added one, its folder's) and its title."""
    return f"{Path(bundle['name']).name}: {bundle['title']}"


def bundle_card(bundle: dict[str, Any]) -> list[dict[str, str]]:
    """A bundle's intended use and its limits, as displayed."""
    rows: Sequence[tuple[str, str]] = (
        ("Task", bundle["task"]),
        ("Images", bundle["modality"]),
        ("Finds", ", ".join(label["name"] for label in bundle["labels"])),
        ("Intended use", bundle["intended_use"]),
        ("Limits", bundle["limits"]),
        ("Trained on", bundle["data_source"]),
        ("Weights", bundle["licence"]),
        ("Version", bundle["version"]),
        ("Folder", bundle["name"] if "unsafe" in bundle else ""),
    )
    return [{"name": name, "text": text} for name, text in rows if text]
