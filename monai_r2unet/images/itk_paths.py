"""Paths for ITK, which takes UTF-8 only: with any other name its C++ ends the process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["itk_path", "itk_paths"]

HEADERS = (".mhd", ".nhdr")  # whose voxels lie in other files, named relative to the header's folder


@contextlib.contextmanager
def itk_path(path: Path) -> Iterator[str]:
    """A name of ``path`` that ITK can take, to read it or to write it, as long as the context lasts.

    Names from old archives and file servers may be bytes of any encoding; those are replaced by symbolic links.
    """
    if _is_utf8(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="monai-r2unet-") as temporary:
        folder, parent = Path(temporary, "folder"), path.absolute().parent
        if _is_utf8(Path(path.name)):
            folder.symlink_to(parent, target_is_directory=True)
            yield str(folder / path.name)
            return
        folder.mkdir()
        for other in parent.iterdir() if path.suffix.lower() in HEADERS else ():
            (folder / other.name).symlink_to(other)
        link = folder / f"image{path.suffix if _is_utf8(Path(path.suffix)) else ''}"
        link.unlink(missing_ok=True)
        link.symlink_to(parent / path.name)
        yield str(link)


@contextlib.contextmanager
def itk_paths(paths: Sequence[Path]) -> Iterator[list[str]]:
    """As `itk_path`, for files to read that do not refer to others, such as the slices of a DICOM series."""
    if all(map(_is_utf8, paths)):
        yield [str(path) for path in paths]
        return
    with tempfile.TemporaryDirectory(prefix="monai-r2unet-") as temporary:
        links = [Path(temporary, f"{index:06d}.dcm") for index in range(len(paths))]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.absolute())
        yield [str(link) for link in links]


def _is_utf8(path: Path) -> bool:
    """Whether the file system knows the path by the bytes that ITK would use."""
    try:
        return str(path).encode("utf-8") == os.fsencode(path)
    except UnicodeEncodeError:
        return False
