"""Exit codes, progress bar and formatting shared by the verbs of the command line."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["EXIT_DONE", "EXIT_FAILED", "EXIT_NOTHING_FOUND", "EXIT_SOME_FAILED", "ProgressBar", "format_extent"]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_SOME_FAILED = 3
EXIT_NOTHING_FOUND = 4


class ProgressBar:
    """A progress bar on standard error, if that is a terminal; the first step sets its total."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Any = None

    def update(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, disable=None, file=sys.stderr)
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def format_extent(voxels: int | None, millilitres: float | None) -> str:
    """Size of the segmentation in columns: voxels and mL of a volume, pixels of a picture."""
    return f"{voxels} pixels" if millilitres is None else f"{voxels} voxels\t{millilitres:.1f} mL"
