"""Your own images and masks, in two folders or side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import SimpleITK as sitk

from monai_r2unet.datasets.datalist import first_three
from monai_r2unet.datasets.layout import Layout, LungCase, check_counterparts
from monai_r2unet.datasets.volumes import read_volume, split_ending
from monai_r2unet.errors import InputError

__all__ = ["LAYOUT"]

_MASK_FOLDERS = ("masks", "labels")
_IMAGE_SUFFIX, _MASK_SUFFIX = "_ct", "_lung"


def _matches(source: Path) -> bool:
    return _mask_folder(source) is not None or bool(_files(source, _IMAGE_SUFFIX))


def _cases(source: Path) -> list[LungCase]:
    masks_in = _mask_folder(source)
    if masks_in is not None:
        images, masks = _files(source / "images"), _files(masks_in)
    else:
        images, masks = _files(source, _IMAGE_SUFFIX), _files(source, _MASK_SUFFIX)
    check_counterparts(list(images), list(masks), source)
    alone = sorted(set(masks) - set(images))
    if alone:
        raise InputError(
            f"{len(alone)} of {len(masks)} masks in {source} have no image of the same name: {first_three(alone)}; "
            "rename or remove them"
        )
    return [LungCase(name, patient=name, read=partial(_read, path, masks[name])) for name, path in images.items()]


def _mask_folder(source: Path) -> Path | None:
    folders = [source / name for name in _MASK_FOLDERS if (source / name).is_dir()]
    if len(folders) > 1:
        raise InputError(f"{source} holds both masks/ and labels/, expected one of them: keep one, or rename the other")
    return folders[0] if folders and (source / "images").is_dir() else None


def _files(folder: Path, suffix: str = "") -> dict[str, Path]:
    """Find the image files whose stem ends in ``suffix``, keyed by the stem without it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem, ending = split_ending(path)
        if not ending or not stem.endswith(suffix) or path.name.startswith("."):
            continue
        name = stem.removesuffix(suffix)
        if name in found:
            raise InputError(f"{found[name].name} and {path.name} in {folder} are the same case; keep one of them")
        found[name] = path
    return found


def _read(image: Path, mask: Path) -> tuple[sitk.Image, sitk.Image]:
    return read_volume(image), read_volume(mask)


LAYOUT = Layout(
    name="pairs",
    form=(
        "images/<case>.<ext> with masks/<case>.<ext> or labels/<case>.<ext>, or <case>_ct.<ext> with <case>_lung.<ext> "
        "(NIfTI, NRRD, MetaImage, PNG, TIFF)"
    ),
    description="CT images with lung masks, given in pairs",
    licence="pairs: as given by their owner",
    reference="",
    matches=_matches,
    cases=_cases,
)
