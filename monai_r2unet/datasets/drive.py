"""DRIVE: 40 fundus photographs with manually drawn vessels, 20 for training and 20 for test."""

from __future__ import annotations

import logging
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
    name="drive",
    description="DRIVE: fundus photographs with retinal vessels drawn by hand and fields of view, 565 x 584 pixels",
    licence="DRIVE: for research; redistribution is prohibited, see the data set's page",
    reference="DRIVE: Staal et al., IEEE Transactions on Medical Imaging 23, 2004, doi:10.1109/TMI.2004.825627",
    count=40,
    form="21_training.tif with 21_manual1.gif and 21_training_mask.gif, 01_test.tif with 01_manual1.gif, ...",
)
_PICTURE = r"(?:tiff?|gif|png|ppm)"
_logger = logging.getLogger(__name__)


def prepare(source: Path, dest: Path, *, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """Convert DRIVE to the form that the ``drive`` bundle reads.

    The split is the published one: 21 to 40 for training, of which the last two, 39 and 40, are for validation; 01 to
    20 for test. Recent downloads lack the test masks: in that case the test set is left out, with a warning.

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
        images = find_named(folders, rf"(\d\d_(?:training|test))\.{_PICTURE}")
        labels, seconds = (find_named(folders, rf"(\d\d)_manual{n}\.{_PICTURE}") for n in (1, 2))
        fields = find_named(folders, rf"(\d\d_(?:training|test))_mask\.{_PICTURE}")
        if labels and not any("test" in name and name[:2] in labels for name in images):
            _logger.warning("%s has no masks of the test images (recent downloads leave them out): no test set", source)
            images = {name: path for name, path in images.items() if "test" not in name}
        check_complete(DATASET, [name[:2] for name in images], list(labels), source)
        sets = hold_out_last(name for name in images if "training" in name)
        pictures = [
            Picture(
                name,
                sets.get(name, "test"),
                image,
                labels[name[:2]],
                label_2=seconds.get(name[:2]),
                fov=fields.get(name),
            )
            for name, image in sorted(images.items())
        ]
        return write_pictures(DATASET, pictures, dest, progress)
