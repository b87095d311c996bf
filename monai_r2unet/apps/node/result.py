"""What a series is, what names its patient, and the UIDs of what is made from it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from monai_r2unet.apps.node.settings import Rule, Series
from monai_r2unet.apps.node.spool import SLICES, names_in
from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import written_whole

__all__ = ["Header", "give_uids", "read_header", "uids_of"]

HIDDEN = "[patient]"  # in place of what names one
READ = ("Modality", "BodyPartExamined", "SeriesDescription", "PatientName", "PatientID")


@dataclass(frozen=True)
class Header:
    """What the first slice states.

    Args:
        series: What rules look at.
        patient: Name and ID.
    """

    series: Series
    patient: tuple[str, str]

    def hidden(self, value: Any) -> Any:
        """A text, or a list of texts, with whatever names the patient replaced: messages may quote a header."""
        if isinstance(value, list):
            return [self.hidden(one) for one in value]
        if isinstance(value, str):
            parts = {*self.patient, *(part for name in self.patient for part in re.split(r"[=^\s]+", name))}
            for part in sorted(parts, key=len, reverse=True):
                if len(part) > 1:
                    value = value.replace(part, HIDDEN)
        return value


def read_header(folder: Path) -> Header:
    """What a slice of a series states.

    Args:
        folder: The series in the spool.

    Raises:
        Exception: whatever pydicom raises on a damaged file.
    """
    names = names_in(folder)
    data = pydicom.dcmread(folder / SLICES / min(names), stop_before_pixels=True, specific_tags=list(READ))
    modality, body_part, description, *patient = (str(data.get(name) or "") for name in READ)
    return Header(Series(modality, body_part, description, len(names)), (patient[0], patient[1]))


def uids_of(rule: Rule, slices: Collection[str]) -> tuple[str, str]:
    """UIDs of the series and of the object that a rule makes of slices: the same ones whenever it is made."""
    bundle = find_bundle(rule.bundle, trusted=rule.trust_bundle)
    sources = [bundle.name, bundle.weights_sha256 or "", rule.output, *sorted(slices)]
    return generate_uid(entropy_srcs=["series", *sources]), generate_uid(entropy_srcs=["object", *sources])


def give_uids(path: Path, uids: tuple[str, str]) -> None:
    """Replace the random UIDs of a DICOM object that was made, in place.

    Raises:
        OutputError: the disk is full.
    """
    data: Any = pydicom.dcmread(path)
    data.SeriesInstanceUID, data.SOPInstanceUID = uids
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    with written_whole(path, ".dcm") as temporary:
        data.save_as(temporary, enforce_file_format=True)
