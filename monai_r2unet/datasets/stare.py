"""STARE: 20 fundus photographs with vessels drawn by two observers, tested by leave-one-out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_r2unet.datasets.archives import unpacked
from monai_r2unet.datasets.datalist import SPLITS, write_datalist
from monai_r2unet.datasets.pictures import (
    Picture,
    PictureSet,
    check_complete,
    find_named,
    hold_out_last,
    write_pictures,
)

__all__ = ["DATASET", "FOLDS", "leave_out", "prepare"]

DATASET = PictureSet(
    name="stare",
    description="STARE: fundus photographs with retinal vessels drawn by two observers, 700 x 605 pixels",
    licence="STARE: no explicit licence, see the data set's page",
    reference="STARE: Hoover, Kouznetsova, Goldbaum, IEEE Transactions on Medical Imaging 19, 2000, "
    "doi:10.1109/42.845178",
    count=20,
    form="im0001.ppm.gz with im0001.ah.ppm.gz and im0001.vk.ppm.gz, ... (or .ppm or .png)",
)
FOLDS = "leave_out"  # the folder with the data list of each fold


def prepare(source: Path, dest: Path, *, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """Convert STARE to the form that the ``stare`` bundle reads, once for each photograph left out.

    ``dest`` itself is a data folder that leaves out the first photograph. In it, each folder ``leave_out/<photograph>``
    is a data folder that leaves out that photograph and refers to the same files. Fields of view are computed, see
    :func:`monai_r2unet.images.field_of_view.field_of_view`.

    Args:
        source: Folder or archive as downloaded; photographs without the mask of A. Hoover are ignored.
        dest: The folder to write to.
        progress: Called as ``progress(done, total)`` after each photograph.

    Returns:
        The content of the first ``datalist.json``.

    Raises:
        InputError: as :func:`monai_r2unet.datasets.pictures.write_pictures`, or if masks are missing.
    """
    with unpacked(source, dest) as folders:
        images = find_named(folders, r"(im\d{4})\.(?:ppm|png)(?:\.gz)?")
        labels, seconds = (find_named(folders, rf"(im\d{{4}})\.{n}\.(?:ppm|png)(?:\.gz)?") for n in ("ah", "vk"))
        if labels:  # STARE has some 400 photographs, of which only these have masks
            images = {name: path for name, path in images.items() if name in labels}
        check_complete(DATASET, list(images), list(labels), source)
        pictures = [
            Picture(name, "training", image, labels[name], label_2=seconds.get(name))
            for name, image in sorted(images.items())
        ]
        sets = leave_out(list(images), pictures[0].name)
        datalist = write_pictures(
            DATASET, [replace(picture, split=sets[picture.name]) for picture in pictures], dest, progress
        )
    entries = {Path(entry["image"]).stem: entry for split in SPLITS for entry in datalist.get(split, [])}
    for name in entries:
        fold = dest / FOLDS / name
        fold.mkdir(parents=True, exist_ok=True)
        write_datalist(fold, _fold(datalist, entries, name))
    return datalist


def leave_out(names: list[str], left_out: str) -> dict[str, str]:
    """Split photographs: ``left_out`` for test, the last two of the others for validation, the rest for training."""
    return hold_out_last(name for name in names if name != left_out) | {left_out: "test"}


def _fold(datalist: dict[str, Any], entries: dict[str, dict[str, str]], left_out: str) -> dict[str, Any]:
    """The data list of a folder two levels below that of ``datalist``."""
    fold: dict[str, Any] = {key: value for key, value in datalist.items() if key not in SPLITS}
    fold |= {split: [] for split in SPLITS}
    for name, split in sorted(leave_out(list(entries), left_out).items()):
        fold[split].append({key: f"../../{path}" for key, path in entries[name].items()})
    return fold
