"""Downloads as they are: folders, archives, and archives within archives."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from monai_r2unet.datasets.layout import find_files
from monai_r2unet.errors import InputError

__all__ = ["unpacked"]

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")


@contextlib.contextmanager
def unpacked(source: Path, dest: Path) -> Iterator[list[Path]]:
    """Yield the folders to search: ``source``, and a temporary one with the content of its archives.

    An archive beside a folder of the same name counts as unpacked.

    Args:
        source: A folder, or one archive (zip or tar).
        dest: The temporary folder is created in or above this one, as it may be large.

    Raises:
        InputError: no such file or folder, or an archive that is damaged or needs a password.
    """
    if not source.exists():
        raise InputError(f"the source {source} does not exist; name the folder or the archive of the data set")
    if source.is_file() and not source.name.lower().endswith(ENDINGS):
        raise InputError(f"the source {source} is neither a folder nor an archive ({', '.join(ENDINGS)})")
    folders, archives = ([], [source]) if source.is_file() else ([source], _archives(source))
    near = next(folder for folder in (dest, *dest.absolute().parents) if folder.is_dir())
    with contextlib.ExitStack() as stack:
        for archive in archives:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacked-", dir=near))
            folder = Path(place, _stem(archive))  # its name may identify the set: ISIC-2017_Training_Data
            _unpack(archive, folder)
            folders.append(folder)
        yield folders


def _archives(folder: Path) -> list[Path]:
    """Find the archives below ``folder`` that have not been unpacked beside it."""
    found = [path for ending in ENDINGS for path in find_files(folder, ending)]
    return sorted(path for path in found if not path.with_name(_stem(path)).is_dir())


def _stem(archive: Path) -> str:
    ending = next(ending for ending in ENDINGS if archive.name.lower().endswith(ending))
    return archive.name[: -len(ending)]


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as pack:
                pack.extractall(folder)  # verifies checksums, and stays within the folder
        else:
            with tarfile.open(archive) as pack:
                pack.extractall(folder, filter="data")  # nothing outside the folder, no devices
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"the archive {archive} cannot be unpacked ({error}): download it again, or unpack it yourself and name "
            "the folder"
        ) from error
    for nested in _archives(folder):
        _unpack(nested, nested.with_name(_stem(nested)))
        nested.unlink()
