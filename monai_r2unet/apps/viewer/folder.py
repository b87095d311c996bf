"""The only folder that the viewer may read from."""

from __future__ import annotations

import re
from pathlib import Path

from monai_r2unet.apps.viewer.texts import readable, typed
from monai_r2unet.errors import InputError
from monai_r2unet.files import is_there

__all__ = ["Folder", "check_one_file"]

SUGGESTIONS = 50
HEADER = 1 << 20  # bytes; the text before the voxels must end within them
NRRD = (".nrrd", ".nhdr")
METAIMAGE = (".mha", ".mhd")
DATA_FILE = re.compile(rb"^[ \t]*data ?file[ \t]*:", re.IGNORECASE | re.MULTILINE)
ELEMENT_DATA_FILE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Folder:
    """Finds files inside a folder and nothing outside it, neither by ``..`` nor by links.

    Args:
        root: Path of the folder.

    Raises:
        InputError: if it is not a folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"there is no folder {root} to open images from: check --folder")
        self.root = root.resolve()

    def find(self, path: str) -> Path:
        """The file or folder at this path, absolute or relative to this folder, with all links resolved.

        Raises:
            InputError: if the path leads out of the folder or does not exist.
        """
        for name in (path, path.strip(), typed(path.strip())):
            try:
                found = (self.root / name).resolve()
            except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a null byte
                raise InputError(f"{path!r} is not a valid path: check it") from error
            # Checked first, so that the answer reveals nothing about files elsewhere.
            self._check(found, path)
            if is_there(found):
                break
        else:
            raise InputError(f"there is no file or folder {path} in {self.root}: check the path")
        if found.is_dir():
            for file in found.iterdir():
                self._check(file.resolve(), path)
        else:
            check_one_file(found)
        return found

    def find_folder(self, path: str) -> Path:
        """The folder at this path, absolute or relative to this folder, with all links resolved; see `find`."""
        found = self.find(path)
        if not found.is_dir():
            raise InputError(f"{path} is a file, expected a folder: check the path")
        for inside in found.rglob("*"):
            self._check(inside.resolve(), path)
        return found

    def suggest(self, start: str) -> list[str]:
        """Paths in this folder that begin with ``start``, as they can be shown; folders end with a slash."""
        parent, _, name = start.strip().rpartition("/")
        try:
            folder = (self.root / typed(parent)).resolve()
            self._check(folder, parent)
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name.lower())
        except (InputError, OSError, ValueError, RuntimeError):
            return []
        prefix = f"{parent}/" if parent else ""
        shown = ((readable(e.name), e.is_dir()) for e in entries if not e.name.startswith("."))
        fitting = (f"{prefix}{text}{'/' * is_dir}" for text, is_dir in shown if text.lower().startswith(name.lower()))
        return [text for text, _ in zip(fitting, range(SUGGESTIONS), strict=False)]

    def _check(self, found: Path, path: str) -> None:
        if not found.is_relative_to(self.root):
            raise InputError(
                f"{path} lies outside of {self.root}, the folder that this viewer may read: choose a file inside, or "
                "start it again with another --folder"
            )


def check_one_file(path: Path) -> None:
    """Check that an image does not make its reader open other files.

    Raises:
        InputError: if it does.
    """
    name = path.name.lower()
    if not name.endswith((*NRRD, *METAIMAGE)):
        return
    with path.open("rb") as file:
        start = file.read(HEADER)
    if name.endswith(NRRD):
        header, *voxels = re.split(rb"\r?\n\r?\n", start, maxsplit=1)
        within = bool(voxels) and not DATA_FILE.search(header)
    else:
        named = ELEMENT_DATA_FILE.search(start)
        within = named is not None and named[1].strip().upper() == b"LOCAL"
    if not within:
        raise InputError(
            f"{path.name} does not hold its own voxels: save the image as one file, .nrrd, .mha or .nii.gz"
        )
