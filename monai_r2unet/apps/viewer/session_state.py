"""The page's initial state."""

from __future__ import annotations

from typing import Any

__all__ = ["STATE"]

# State shared with the page. Values written by the page are checked where they are used.
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
    "scaled": False,  # whether the bundle scales by the field of view
    "scale": "",  # the photograph's scale: a factor or the diameter of its field of view; empty for automatic
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
