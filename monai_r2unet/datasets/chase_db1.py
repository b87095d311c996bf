"""CHASE_DB1: 28 fundus photographs of both eyes of 14 children, with vessels drawn by two observers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_r2unet.datasets.archives import unpacked
from monai_r2unet.datasets.pictures import (
    Picture,
    PictureSet,
    check_complete,
    find_named,
    hold_out_last,
    write_pictures,
)

__all__ = ["DATASET", "prepare"]

DATASET = PictureSet(
    name="chase_db1",
    description="CHASE_DB1: fundus photographs with retinal vessels drawn by two observers, 999 x 960 pixels",
    licence="CHASE_DB1: CC BY 4.0",
    reference="CHASE_DB1: Fraz et al., IEEE Transactions on Biomedical Engineering 59, 2012, "
    "doi:10.1109/TBME.2012.2205687",
    count=28,
    form="Image_01L.jpg with Image_01L_1stHO.png and Image_01L_2ndHO.png, ...",
)
FIRST_OF_TEST = "Image_11L"


def prepare(source: Path, dest: Path, *, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """Convert CHASE_DB1 to the form that the ``chase_db1`` bundle reads.

    As in the R2U-Net paper, the first 20 photographs (01L to 10R) are for training and the last 8 (11L to 14R) for
    test. The last two training photographs, 10L and 10R of one child, are for validation. Fields of view are computed,
    see
    :func:`monai_r2unet.images.field_of_view.field_of_view`.

    Args:
        source: Folder or archive as downloaded.
        dest: The folder to write to.
        progress: Called as ``progress(done, total)`` after each photograph.

    Returns:
        The content of ``datalist.json``.

    Raises:
        InputError: as :func:`monai_r2unet.datasets.pictures.write_pictures`, or if masks are missing.
    """
    with unpacked(source, dest) as folders:
        images = find_named(folders, r"(Image_\d\d[LR])\.(?:jpe?g|png)")
        labels, seconds = (find_named(folders, rf"(Image_\d\d[LR])_{n}HO\.png") for n in ("1st", "2nd"))
        check_complete(DATASET, list(images), list(labels), source)
        sets = hold_out_last(name for name in images if name < FIRST_OF_TEST)
        pictures = [
            Picture(name, sets.get(name, "test"), image, labels[name], label_2=seconds.get(name), patient=name[:-1])
            for name, image in sorted(images.items())
        ]
        return write_pictures(DATASET, pictures, dest, progress)
