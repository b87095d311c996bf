"""Install a Python package and its dependencies, except those shipped with Slicer. Run as a program, in Slicer's
Python.

Slicer ships its own builds of numpy and SimpleITK, and the extension PyTorch installs PyTorch: replacing any of them
can break Slicer. pip cannot leave out some dependencies, so each package is installed without any; then its
dependencies follow one by one, unless a suitable version is already installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ImportError:  # pip has its own copy
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

LEFT_ALONE = {"numpy", "simpleitk", "torch"}


def main() -> int:
    """Install; returns pip's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", help="name of the package, or path of a wheel")
    parser.add_argument("--from-folder", type=Path, help="take packages from wheels in this folder, without a network")
    options = parser.parse_args()
    source = [] if options.from_folder is None else ["--no-index", "--find-links", str(options.from_folder)]
    wheel = options.package if options.package.endswith(".whl") else None
    name = options.package if wheel is None else parse_wheel_filename(Path(wheel).name)[0]

    code = _pip([*source, "--upgrade", wheel or name])
    waiting, done = [Requirement(name)], set()
    while waiting and code == 0:
        for needed in _requirements(waiting.pop(0)):
            if canonicalize_name(needed.name) in LEFT_ALONE or str(needed) in done:
                continue
            done.add(str(needed))
            waiting.append(needed)
            if code == 0 and not _is_met(needed):
                code = _pip([*source, f"{needed.name}{needed.specifier}"])
    print("Installed." if code == 0 else "Not installed.", flush=True)
    return code


def _pip(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", *arguments]
    return subprocess.call(command)


def _is_met(requirement: Requirement) -> bool:
    importlib.invalidate_caches()
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _requirements(requirement: Requirement) -> list[Requirement]:
    """The requirements of an installed package in this Python, including the requested extras."""
    importlib.invalidate_caches()
    found = []
    for text in importlib.metadata.requires(requirement.name) or []:
        needed = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *requirement.extras)]
        if needed.marker is None or any(needed.marker.evaluate(environment) for environment in environments):
            found.append(needed)
    return found


if __name__ == "__main__":
    sys.exit(main())
