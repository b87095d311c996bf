"""Colours and standard codes for labels that only have names."""

from __future__ import annotations

import re

__all__ = ["COLOURS", "terminology_of"]

# Colour-blind safe (Okabe-Ito without black, then Tol's light scheme), RGB from 0 to 255.
COLOURS = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
    [119, 170, 221],
    [238, 136, 102],
    [170, 170, 0],
    [68, 187, 153],
    [187, 204, 51],
]

Code = dict[str, str]

STRUCTURE = ("123037004", "Anatomical Structure")
TISSUE = ("85756007", "Tissue")
ABNORMAL = ("49755003", "Morphologically Altered Structure")
# SNOMED CT codes by a word of the name; the first that occurs counts.
KNOWN = {
    "lung": (STRUCTURE, ("39607008", "Lung")),
    "liver": (STRUCTURE, ("10200004", "Liver")),
    "kidney": (STRUCTURE, ("64033007", "Kidney")),
    "spleen": (STRUCTURE, ("78961009", "Spleen")),
    "pancreas": (STRUCTURE, ("15776009", "Pancreas")),
    "heart": (STRUCTURE, ("80891009", "Heart")),
    "brain": (STRUCTURE, ("12738006", "Brain")),
    "bladder": (STRUCTURE, ("89837001", "Urinary bladder")),
    "prostate": (STRUCTURE, ("41216001", "Prostate")),
    "trachea": (STRUCTURE, ("44567001", "Trachea")),
    "aorta": (STRUCTURE, ("15825003", "Aorta")),
    "artery": (STRUCTURE, ("51114001", "Artery")),
    "arteries": (STRUCTURE, ("51114001", "Artery")),
    "vein": (STRUCTURE, ("29092000", "Vein")),
    "veins": (STRUCTURE, ("29092000", "Vein")),
    "vessel": (STRUCTURE, ("59820001", "Blood vessel")),
    "vessels": (STRUCTURE, ("59820001", "Blood vessel")),
    "bone": (STRUCTURE, ("272673000", "Bone")),
    "lesion": (ABNORMAL, ("52988006", "Lesion")),
    "tumor": (ABNORMAL, ("4147007", "Mass")),
    "tumour": (ABNORMAL, ("4147007", "Mass")),
}
SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}


def terminology_of(name: str) -> dict[str, Code]:
    """Category, type and, for a side, modifier of a label in SNOMED CT; tissue if the name is not known."""
    words = re.findall(r"[a-z]+", name.lower())
    category, kind = next((KNOWN[word] for word in words if word in KNOWN), (TISSUE, TISSUE))
    codes = {"category": _code(*category), "type": _code(*kind)}
    side = next((SIDES[word] for word in words if word in SIDES), None)
    return codes if side is None else {**codes, "modifier": _code(*side)}


def _code(value: str, meaning: str) -> Code:
    return {"scheme": "SCT", "value": value, "meaning": meaning}
