"""The import contracts of pyproject.toml find what they forbid, however a module hides it; and modules are short."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("importlinter") is None:
    pytest.skip("import-linter is not installed: the extra dev brings it", allow_module_level=True)

ROOMS = "Rooms import downwards only"
PROGRAMS = "Programs know each other by the worker's protocol only"
LIGHT = "Image files need neither torch nor MONAI"
CYCLES = "No cycles"
LONGEST = 350  # lines of a module

IN_A_FUNCTION = "\n\ndef planted() -> None:\n    import {module}\n"
FOR_TYPES = "\n\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import {module}\n"


@pytest.fixture(scope="module")
def copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contracts."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "web")
    shutil.copytree(repository / "monai_r2unet", folder / "monai_r2unet", ignore=ignored)
    shutil.copy(repository / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> tuple[int, dict[str, str]]:
    """Exit code, and the state of each contract."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
    )
    found = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert found.keys() == {ROOMS, PROGRAMS, LIGHT, CYCLES}, done.stdout + done.stderr
    return done.returncode, found


def test_the_package_keeps_its_contracts(copy: Path) -> None:
    code, found = lint(copy)
    assert found == dict.fromkeys((ROOMS, PROGRAMS, LIGHT, CYCLES), "KEPT")
    assert code == 0


@pytest.mark.parametrize(
    ("contract", "importer", "imported", "how"),
    [
        (ROOMS, "networks/blocks.py", "monai_r2unet.inference.segmenter", IN_A_FUNCTION),
        (PROGRAMS, "apps/viewer/texts.py", "monai_r2unet.apps.reproduce.paper", FOR_TYPES),
        (LIGHT, "images/slices.py", "monai.data", IN_A_FUNCTION),
        (CYCLES, "apps/worker/run.py", "monai_r2unet.apps.worker.server", FOR_TYPES),
    ],
    ids=["rooms", "programs", "light", "cycles"],
)
def test_a_forbidden_import_is_found(contract: str, importer: str, imported: str, how: str, copy: Path) -> None:
    module = copy / "monai_r2unet" / importer
    before = module.read_text(encoding="utf-8")
    module.write_text(before + how.format(module=imported), encoding="utf-8")
    try:
        code, found = lint(copy)
    finally:
        module.write_text(before, encoding="utf-8")
    assert found[contract] == "BROKEN"
    assert code != 0


def test_modules_are_short(repository: Path) -> None:
    lines = {
        path.relative_to(repository).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for room in ("monai_r2unet", "slicer_extension", "label_server", "benchmarks", "examples")
        for path in (repository / room).rglob("*.py")
    }
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}
