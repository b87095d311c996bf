"""A quick start for processes that only segment with the shipped bundles."""

from __future__ import annotations

import importlib
import sys

__all__ = ["import_monai_for_segmentation"]

# What MONAI imports where it is installed, though segmentation never uses it: half of the time until the first slice.
UNUSED = ("ignite", "matplotlib", "pandas", "sklearn", "tensorboard")


def import_monai_for_segmentation() -> None:
    """Import MONAI as if packages for training and figures were not installed, which MONAI is made for.

    In this process MONAI's handlers and figures stay out of use. Does nothing once MONAI is imported.
    """
    if "monai" in sys.modules:
        return
    hidden = [name for name in UNUSED if name not in sys.modules]
    # None is Python's own way to say that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        for name in ("monai", "monai.bundle", "monai.inferers", "monai.transforms"):
            importlib.import_module(name)
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
