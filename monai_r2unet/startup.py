"""Imports without what is not needed: a quick start for processes that only segment with the shipped bundles."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator

__all__ = ["hidden_modules", "import_monai_for_segmentation"]

# What MONAI imports where it is installed, though segmentation never uses it: half of the time until the first slice.
UNUSED = ("ignite", "matplotlib", "pandas", "sklearn", "tensorboard")


def import_monai_for_segmentation() -> None:
    """Import MONAI as if packages for training and figures were not installed, which MONAI is made for.

    In this process MONAI's handlers and figures stay out of use. Does nothing once MONAI is imported.
    """
    if "monai" in sys.modules:
        return
    with hidden_modules(*UNUSED):
        for name in ("monai", "monai.bundle", "monai.inferers", "monai.transforms"):
            importlib.import_module(name)


@contextlib.contextmanager
def hidden_modules(*names: str) -> Iterator[None]:
    """Let those of the modules that are not imported yet pass for not installed, as long as the context lasts."""
    hidden = [name for name in names if name not in sys.modules]
    # None is Python's own way to say that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
