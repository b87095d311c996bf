"""Exit codes, progress bar and formatting shared by the verbs of the command line."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

from monai_r2unet.errors import InputError

__all__ = [
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_NOTHING_FOUND",
    "EXIT_SOME_FAILED",
    "ProgressBar",
    "check_installed",
    "format_extent",
    "say",
]

# Characters that names may contain and that would end a line, or worse; tabs separate columns.
CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(9), *range(10, 32), 127)}

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_SOME_FAILED = 3
EXIT_NOTHING_FOUND = 4


def say(line: str, *, result: bool = False) -> None:
    """Print a line, a result or a message; a closed stream or a full disk does not stop the work."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        print(line.translate(CONTROL), file=sys.stdout if result else sys.stderr)


def check_installed(packages: Sequence[str], what: str, extra: str) -> None:
    """Refuse to start a program whose packages are not installed; ``extra`` names what installs them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'{what} needs {", ".join(missing)}, which is not installed: pip install "monai-r2unet[{extra}]"'
        )


class ProgressBar:
    """A progress bar on standard error, if that is a terminal; the first step sets its total."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Any = None

    def update(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done."""
        from tqdm import tqdm

        with contextlib.suppress(OSError, ValueError):  # as in `say`
            if self.bar is None:
                self.bar = tqdm(total=total, desc=self.description, disable=None, file=sys.stderr)
            self.bar.update(done - self.bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.close()


def format_extent(voxels: int | None, millilitres: float | None) -> str:
    """Size of the segmentation in columns: voxels and mL of a volume, pixels of a picture."""
    return f"{voxels} pixels" if millilitres is None else f"{voxels} voxels\t{millilitres:.1f} mL"
