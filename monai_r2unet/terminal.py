"""What the verbs of the command line share: exit codes, the progress bar, checks of output files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai_r2unet.errors import InputError

__all__ = [
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_NOTHING_FOUND",
    "EXIT_SOME_FAILED",
    "ProgressBar",
    "check_json_output",
]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_SOME_FAILED = 3
EXIT_NOTHING_FOUND = 4


def check_json_output(path: str, overwrite: bool) -> None:
    """Check, before any work is done, that a JSON file can be written to ``path``."""
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder, expected the name of a file to write: add one")
    if Path(path).exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or pass --overwrite")
    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: its folder does not exist; make it first")


class ProgressBar:
    """A bar on standard error whose total comes with the first step; silent where nobody watches."""

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
