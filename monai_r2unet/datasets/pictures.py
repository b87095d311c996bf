"""Data sets of photographs: from the downloaded files to the folder that the bundles read."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from monai_r2unet.datasets.datalist import FILE_NAME, SPLITS, first_three, read_datalist, write_datalist
from monai_r2unet.datasets.layout import find_files
from monai_r2unet.errors import InputError
from monai_r2unet.files import written_whole
from monai_r2unet.images.field_of_view import field_of_view
from monai_r2unet.images.label_values import checked_labels, grey_of
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_png

__all__ = ["Picture", "PictureSet", "check_complete", "find_named", "foreground", "hold_out_last", "write_pictures"]

COPIED = (".png", ".jpg", ".jpeg")  # small, and readable everywhere
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureSet:
    """A data set of photographs.

    Attributes:
        name: Name of the bundle that reads it.
        description: What the images show.
        licence: Terms of use.
        reference: Publication to cite.
        count: Number of images.
        form: The expected files, in one line, for messages.
        fov: Whether it has fields of view, given or computed.
    """

    name: str
    description: str
    licence: str
    reference: str
    count: int
    form: str
    fov: bool = True


@dataclass(frozen=True)
class Picture:
    """One photograph with its masks.

    Attributes:
        name: Name of the files to be written, without ending.
        split: ``"training"``, ``"validation"`` or ``"test"``.
        image: The photograph.
        label: Mask of the first observer.
        label_2: Mask of the second observer, if there is one.
        fov: Mask of the field of view; None if it is to be computed.
        patient: Identifier of the patient, if it differs from the name.
    """

    name: str
    split: str
    image: Path
    label: Path
    label_2: Path | None = None
    fov: Path | None = None
    patient: str | None = None


def find_named(folders: Iterable[Path], pattern: str) -> dict[str, Path]:
    """Find the files at any depth whose names match ``pattern``, keyed by the first group of the match.

    Raises:
        InputError: if two files have the same key.
    """
    matches = re.compile(pattern).fullmatch
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(find_files(folder, "")):
            match = matches(path.name)
            if match is None:
                continue
            if match[1] in found:
                raise InputError(f"{found[match[1]]} and {path} are the same file twice; remove one of them")
            found[match[1]] = path
    return found


def check_complete(dataset: PictureSet, images: Sequence[str], labels: Sequence[str], source: Path) -> None:
    """Raise unless every image has its mask; warn if the data set is incomplete."""
    if not images:
        raise InputError(f"{source} holds no images of {dataset.name}; expected {dataset.form}")
    missing = sorted(set(images) - set(labels))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images in {source} have no mask: {first_three(missing)}; expected "
            f"{dataset.form}"
        )
    if len(images) < dataset.count:
        _logger.warning("%s holds %d of the %d images of %s", source, len(images), dataset.count, dataset.name)


def hold_out_last(names: Iterable[str], count: int = 2) -> dict[str, str]:
    """Split ``names``, in order, into training and validation (the last ``count``, but never all of them)."""
    ordered = sorted(names)
    start = max(len(ordered) - count, min(1, len(ordered)))
    return {name: "training" if index < start else "validation" for index, name in enumerate(ordered)}


def foreground(mask: sitk.Image, where: object) -> sitk.Image:
    """Convert a mask to the values 0 and 255, however it was stored.

    Of two values the larger is foreground, as in 0/1 and 0/255. Of more values, as from smoothed edges and JPEG, those
    above half of the type's maximum are.

    Args:
        mask: 2D mask, in grey; it may be stored as RGB.
        where: Source of the mask, for messages.

    Raises:
        InputError: colours, or several labels, see `monai_r2unet.images.label_values.checked_labels`.
    """
    values = sitk.GetArrayFromImage(mask)
    if values.ndim == 3:
        values = grey_of(values, where)
    return sitk.GetImageFromArray(255 * checked_labels(values, 1, where))


def write_pictures(
    dataset: PictureSet,
    pictures: Sequence[Picture],
    dest: Path,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Write photographs, masks and ``datalist.json``, in that order.

    PNG and JPEG photographs are copied unchanged, others are converted to PNG without loss. Masks are PNG, 0 and 255.
    Existing files are left unchanged, so that an interrupted run can be repeated.

    Args:
        dataset: The data set of the pictures.
        pictures: The pictures to write.
        dest: The folder to write to; created if it does not exist.
        progress: Called as ``progress(done, total)`` after each photograph.

    Returns:
        The content of ``datalist.json``.

    Raises:
        InputError: ``dest`` holds something else, or a photograph is not RGB or differs in size from its masks.
    """
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file; name a folder to write to")
    if (dest / FILE_NAME).exists() and read_datalist(dest).get("name") != dataset.name:
        raise InputError(f"{dest} holds the data list of another data set; choose another folder")
    datalist: dict[str, Any] = {
        "name": dataset.name,
        "description": dataset.description,
        "licence": dataset.licence,
        "reference": dataset.reference,
    }
    entries: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for done, picture in enumerate(pictures, start=1):
        entries[picture.split].append(_write(picture, dest, with_fov=dataset.fov))
        if progress is not None:
            progress(done, len(pictures))
    datalist |= {split: listed for split, listed in entries.items() if listed}
    write_datalist(dest, datalist)
    return datalist


def _write(picture: Picture, dest: Path, *, with_fov: bool) -> dict[str, str]:
    image = read_image(picture.image)
    if image.GetDimension() != 2 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(f"{picture.image} is not a photograph in RGB; give the original of the data set")
    masks = {"label": foreground(read_image(picture.label), picture.label)}
    if picture.label_2 is not None:
        masks["label_2"] = foreground(read_image(picture.label_2), picture.label_2)
    if picture.fov is not None:
        masks["fov"] = foreground(read_image(picture.fov), picture.fov)
    elif with_fov:
        masks["fov"] = field_of_view(image)
    for key, mask in masks.items():
        if mask.GetSize() != image.GetSize():
            raise InputError(
                f"{picture.image} has {' x '.join(map(str, image.GetSize()))} pixels but its mask "
                f"{getattr(picture, key)} has {' x '.join(map(str, mask.GetSize()))}; both must be of the same size"
            )
    ending = picture.image.suffix.lower() if picture.image.suffix.lower() in COPIED else ".png"
    entry = {"image": f"images/{picture.name}{ending}"}
    entry |= {key: f"{_folder(key)}/{picture.name}.png" for key in masks}
    _write_missing(dest / entry["image"], image, picture.image)
    for key, mask in masks.items():
        _write_missing(dest / entry[key], mask)
    return entry | ({"patient": picture.patient} if picture.patient else {})


def _folder(key: str) -> str:
    return {"label": "labels", "label_2": "labels_2"}.get(key, key)


def _write_missing(path: Path, picture: sitk.Image, original: Path | None = None) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if original is not None and original.suffix.lower() == path.suffix:
        with written_whole(path, path.suffix) as temporary:
            shutil.copyfile(original, temporary)
    else:
        write_png(picture, path)
