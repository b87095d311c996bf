"""A DICOMweb archive as the datastore, with complete descriptions of its labels."""

from __future__ import annotations

from typing import Any

import SimpleITK as sitk
from monailabel.datastore.dicom import DICOMWebDatastore

from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_image

__all__ = ["DescribedDatastore", "describe", "put_on_grid"]

Label = dict[str, Any]


class DescribedDatastore(DICOMWebDatastore):
    """MONAI Label's datastore, except that DICOM SEG keeps the label's meaning and position.

    MONAI Label gives every segment that its client does not fully describe the code of the spleen, in red. And it reads
    only the non-empty slices of a segmentation from the archive.
    """

    labels: dict[str, list[Label]]  # labels of each bundle, by its name

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label; a final one is sent to the archive as DICOM SEG."""
        labels = self.labels.get(label_info.get("model", ""), next(iter(self.labels.values())))
        label_info["label_info"] = describe(label_info.get("label_info") or [], labels)
        saved: str = super().save_label(image_id, label_filename, label_tag, label_info, label_id)
        return saved

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Images and their final labels, each label on the grid of its image."""
        entries: list[dict[str, Any]] = super().datalist(full_path)
        if full_path:  # otherwise only names, for a listing
            for entry in entries:
                put_on_grid(entry["label"], entry["image"])
        return entries


def put_on_grid(label: str, image: str) -> None:
    """Rewrite a label that does not cover its image, with background in the missing part.

    Args:
        label: Path of a mask with a part of the image's voxels.
        image: Path of its image.
    """
    mask, reference = read_image(label), read_image(image)
    if not same_grid(mask, reference):
        write_image(sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor), label, overwrite=True)


def describe(segments: list[dict[str, Any]], labels: list[Label]) -> list[dict[str, Any]]:
    """The description of each segment that dcmqi needs.

    Args:
        segments: Name and value (``idx``) of each, as sent by the client; none for the bundle's segments.
        labels: Labels from the bundle's metadata.

    Returns:
        The segments; those named like a label also get its colour and codes.
    """
    known = {label["name"].lower(): label for label in labels}
    given = segments or [{"name": label["name"], "idx": label["value"]} for label in labels]
    return [_described(segment, known.get(str(segment.get("name", "")).lower())) for segment in given]


def _described(segment: dict[str, Any], label: Label | None) -> dict[str, Any]:
    if label is None:
        return segment
    codes = {kind: _code(label["terminology"][kind]) for kind in ("category", "type")}
    attribute = {
        "labelID": segment.get("idx", label["value"]),
        "SegmentLabel": label["name"],
        "SegmentDescription": label["name"],
        "SegmentAlgorithmType": "SEMIAUTOMATIC",
        "SegmentAlgorithmName": "monai-r2unet",
        "SegmentedPropertyCategoryCodeSequence": codes["category"],
        "SegmentedPropertyTypeCodeSequence": codes["type"],
        "recommendedDisplayRGBValue": label["colour"],
    }
    if "modifier" in label["terminology"]:  # right or left
        attribute["SegmentedPropertyTypeModifierCodeSequence"] = _code(label["terminology"]["modifier"])
    return {"color": label["colour"], "segmentAttribute": attribute, **segment}


def _code(code: dict[str, str]) -> dict[str, str]:
    return {"CodeValue": code["value"], "CodingSchemeDesignator": code["scheme"], "CodeMeaning": code["meaning"]}
