"""What all layouts of a data set share: how they are recognised, and the cases they contain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.datasets.datalist import first_three
from monai_r2unet.errors import InputError

__all__ = ["Layout", "LungCase", "check_counterparts", "find_files"]


@dataclass(frozen=True)
class LungCase:
    """One image with its mask.

    Attributes:
        name: Name of the files to be written, without ending.
        patient: Identifier of the patient; all cases of a patient belong to the same set.
        read: Loads image (HU) and mask (foreground > 0) as volumes on one grid.
        split: The set in the data set's own split; None if it has none.
    """

    name: str
    patient: str
    read: Callable[[], tuple[sitk.Image, sitk.Image]]
    split: str | None = None


@dataclass(frozen=True)
class Layout:
    """A way in which downloaded files are arranged in a folder.

    Attributes:
        name: The name users type.
        form: The expected files, in one line, for messages.
        description: What the images show.
        licence: Terms of use.
        reference: Publication to cite.
        matches: Whether a folder has this layout.
        cases: Lists the cases of a folder; raises InputError on missing counterparts.
        validation: Fraction of the patients drawn for validation if there is no given split.
        test: Fraction of the patients drawn for test if there is no given split.
    """

    name: str
    form: str
    description: str
    licence: str
    reference: str
    matches: Callable[[Path], bool]
    cases: Callable[[Path], Sequence[LungCase]]
    validation: float = 0.1
    test: float = 0.1


def find_files(folder: Path, ending: str) -> Iterator[Path]:
    """Find the files below ``folder`` with the given ending, in any case; linked folders are followed."""
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names if name.lower().endswith(ending) and not name.startswith("."))


def check_counterparts(images: Sequence[str], masks: Sequence[str], where: Path) -> None:
    """Raise InputError if an image has no mask."""
    missing = sorted(set(images) - set(masks))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(set(images))} images in {where} have no mask: {first_three(missing)}; "
            "add the masks or remove the images"
        )
