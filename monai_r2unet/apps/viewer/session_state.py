"""What the page knows at the beginning."""

from __future__ import annotations

from typing import Any

__all__ = ["STATE"]

# What the page knows. What it writes is checked where it is used.
STATE: dict[str, Any] = {
    "ready": False,
    "suggestions": [],
    "image": None,  # name, size, picture, grey
    "opening": "",
    "message": None,  # kind (error, warning, info), text
    "bundles": [],
    "bundle": "",
    "card": [],
    "problem": "",
    "devices": [{"id": "auto", "name": "Automatic"}],
    "device": "auto",
    "scaled": False,  # whether the bundle goes by the field of view
    "scale": "",  # factor, or diameter of the field of view, of the photograph; empty to find it
    "running": False,
    "done": 0,
    "total": 0,
    "progress": "",
    "result": None,  # segments, downloads, seconds
    "opacity": 60,
    "mask_shown": True,
    "surface_shown": True,
    "reference": None,  # name, measures, colours
    "comparing": False,
    "errors_shown": True,
    "window": 0.0,
    "level": 0.0,
}
