"""A bundle in a zip file, unpacked so that nothing is written outside its folder."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from slicer.i18n import tr as _

from .problem import Problem

MOST_BYTES = 4 << 30  # unpacked
MOST_FILES = 10_000
MARK = PurePosixPath("configs/inference.json")  # which every bundle has


def unpack(archive: Path) -> Path:
    """Unpack the bundle in a zip file into a folder of the same name next to it, or leave nothing.

    Args:
        archive: The zip file, with a bundle at its top or in a folder.

    Returns:
        The bundle's folder.

    Raises:
        Problem: if it holds no bundle, or is not safe to unpack, or its folder exists or cannot be written.
    """
    dest = archive.with_suffix("")
    if dest.exists():
        raise Problem(
            _("{folder} exists already: add that folder, or rename it and add the zip file again.").format(folder=dest)
        )
    partial: Path | None = None
    try:
        with zipfile.ZipFile(archive) as zipped:
            _check(zipped, archive)
            root = _root(zipped, archive)
            partial = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent))
            zipped.extractall(partial)
        (partial / root).rename(dest)
    # zipfile raises NotImplementedError for a compression that it does not know.
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        problem = _("{archive} is not a zip file, or is damaged ({error}): copy it again.")
        raise Problem(problem.format(archive=archive, error=error)) from error
    except OSError as error:
        problem = _("{archive} cannot be unpacked in its folder ({error}): move it to a folder that you may write to.")
        raise Problem(problem.format(archive=archive, error=error)) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return dest


def _check(zipped: zipfile.ZipFile, archive: Path) -> None:
    """Refuse names that lead elsewhere, links, passwords, and more than a bundle can be."""
    members = zipped.infolist()
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if ".." in parts or parts[0] == "" or ":" in member.filename or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = _("{archive} holds '{name}', which would be written outside its folder, so nothing was unpacked.")
            raise Problem(problem.format(archive=archive, name=member.filename))
        if member.flag_bits & 1:
            raise Problem(
                _("{archive} has a password: unpack it yourself, and add the folder.").format(archive=archive)
            )
    if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
        problem = _("{archive} would unpack to more than {gigabytes} GB or {files} files, which no bundle needs.")
        raise Problem(problem.format(archive=archive, gigabytes=MOST_BYTES >> 30, files=MOST_FILES))


def _root(zipped: zipfile.ZipFile, archive: Path) -> PurePosixPath:
    """The folder of the bundle in the zip file; the outermost one, as a trained bundle may lie in another."""
    names = [PurePosixPath(name) for name in zipped.namelist()]
    roots = [name.parents[1] for name in names if name.parts[-2:] == MARK.parts]
    outermost = [root for root in roots if len(root.parts) == min(len(other.parts) for other in roots)]
    if len(outermost) != 1:
        problem = _("{archive} holds {count} bundles, expected one, with {mark} in it: check what was packed.")
        raise Problem(problem.format(archive=archive, count=len(outermost), mark=MARK))
    return outermost[0]
