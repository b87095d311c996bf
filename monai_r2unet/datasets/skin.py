"""ISIC 2017, task 1: dermoscopic photographs of skin lesions with masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_r2unet.datasets.archives import unpacked
from monai_r2unet.datasets.pictures import Picture, PictureSet, check_complete, find_named, write_pictures
from monai_r2unet.datasets.splits import read_split_table
from monai_r2unet.errors import InputError

__all__ = ["DATASET", "OFFICIAL", "PAPER_SPLIT", "prepare"]

DATASET = PictureSet(
    name="skin",
    description="ISIC 2017, task 1: dermoscopic photographs of skin lesions with masks",
    licence="ISIC 2017: CC0",
    reference="ISIC 2017: Codella et al., arXiv:1710.05006",
    count=2000,
    form="ISIC_0000000.jpg with ISIC_0000000_segmentation.png, ...",
    fov=False,
)
OFFICIAL = "official"
PAPER_SPLIT = Path(__file__).with_name("skin_split.csv")  # 1250, 150 and 600 photographs of the training part
_PARTS = {"training": "training", "validation": "validation", "test_v2": "test"}
_PART = re.compile(rf"ISIC-2017_({'|'.join(_PARTS)})_", re.IGNORECASE)


def prepare(
    source: Path,
    dest: Path,
    *,
    split: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Convert ISIC 2017 to the form that the ``skin`` bundle reads; photographs keep their size.

    Args:
        source: Folder or archive as downloaded.
        dest: The folder to write to.
        split: None splits the 2,000 photographs of the training part into 1250, 150 and 600, the numbers of the R2U-Net
            paper, as the shipped weights were trained; ``"official"`` keeps the three parts of the challenge,
            recognised by the names of their folders or archives; otherwise a CSV file with the columns ``case`` (or
            ``id``) and ``split``. Photographs that are not listed are left out.
        progress: Called as ``progress(done, total)`` after each photograph.

    Returns:
        The content of ``datalist.json``.

    Raises:
        InputError: as :func:`monai_r2unet.datasets.pictures.write_pictures`, or if masks or parts are missing.
    """
    with unpacked(source, dest) as folders:
        images = find_named(folders, r"(ISIC_\d{7})\.(?i:jpe?g)")
        labels = find_named(folders, r"(ISIC_\d{7})_segmentation\.png")
        sets = _official(images, source) if split == OFFICIAL else read_split_table(Path(split or PAPER_SPLIT))
        listed = {name: path for name, path in sorted(images.items()) if name in sets}
        if images and not listed:
            raise InputError(f"none of the {len(images)} photographs in {source} is in the split file {split}")
        check_complete(DATASET, list(listed), list(labels), source)
        pictures = [Picture(name, sets[name], image, labels[name]) for name, image in listed.items()]
        return write_pictures(DATASET, pictures, dest, progress)


def _official(images: dict[str, Path], source: Path) -> dict[str, str]:
    parts = {name: _PART.findall(str(path.parent)) for name, path in images.items()}
    sets = {name: _PARTS[found[-1].lower()] for name, found in parts.items() if found}
    missing = [part for part, split in _PARTS.items() if split not in sets.values()]
    if missing:
        raise InputError(
            f"{source} lacks the official parts {', '.join(missing)}; expected ISIC-2017_Training_Data, "
            "ISIC-2017_Validation_Data and ISIC-2017_Test_v2_Data with their Part1_GroundTruth"
        )
    return sets
