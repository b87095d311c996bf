"""The numbers of the paper (Alom et al. 2018, arXiv:1802.06955): Tables I, II, III and V, as printed.

Its networks have the names of ours. docs/explanation/paper_columns.md explains what its columns hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["NAMES", "SECONDS", "TABLE_I", "TABLE_II", "TABLE_III"]

Key = TypeVar("Key")

NAMES = {"ForwardUNet": "U-Net", "ResUNet": "ResU-Net", "RUNet": "RU-Net", "R2UNet": "R2U-Net"}
"""The paper's names for our networks; it has no AttentionR2UNet."""


def _table(keys: Iterable[Key], columns: str, *rows: tuple[float, ...]) -> dict[Key, dict[str, float]]:
    return {key: dict(zip(columns.split(), row, strict=True)) for key, row in zip(keys, rows, strict=True)}


_RETINA = "F1 SE SP AC AUC"
_WITH_T = [("ForwardUNet", 2), ("ResUNet", 2), ("RUNet", 2), ("R2UNet", 2), ("R2UNet", 3)]

TABLE_I = {
    "drive": _table(
        NAMES,
        _RETINA,
        (0.8142, 0.7537, 0.9820, 0.9531, 0.9755),
        (0.8149, 0.7726, 0.9820, 0.9553, 0.9779),
        (0.8155, 0.7751, 0.9816, 0.9556, 0.9782),
        (0.8171, 0.7792, 0.9813, 0.9556, 0.9784),
    ),
    "stare": _table(
        NAMES,
        _RETINA,
        (0.8373, 0.8270, 0.9842, 0.9690, 0.9898),
        (0.8388, 0.8203, 0.9856, 0.9700, 0.9904),
        (0.8396, 0.8108, 0.9871, 0.9706, 0.9909),
        (0.8475, 0.8298, 0.9862, 0.9712, 0.9914),
    ),
    "chase_db1": _table(
        NAMES,
        _RETINA,
        (0.7783, 0.8288, 0.9701, 0.9578, 0.9772),
        (0.7800, 0.7726, 0.9820, 0.9553, 0.9779),
        (0.7810, 0.7459, 0.9836, 0.9622, 0.9803),
        (0.7928, 0.7756, 0.9820, 0.9634, 0.9815),
    ),
}
"""Retina: data set -> network -> column -> value. The paper does not state t."""

TABLE_II = _table(
    _WITH_T,
    "SE SP JSC F1 AC AUC DC",
    (0.9479, 0.9263, 0.9314, 0.8682, 0.9314, 0.9371, 0.8476),
    (0.9454, 0.9338, 0.9367, 0.8799, 0.9367, 0.9396, 0.8567),
    (0.9334, 0.9395, 0.9380, 0.8841, 0.9380, 0.9364, 0.8592),
    (0.9496, 0.9313, 0.9372, 0.8823, 0.9372, 0.9405, 0.8608),
    (0.9414, 0.9425, 0.9421, 0.8920, 0.9424, 0.9419, 0.8616),
)
"""Skin: (network, t) -> column -> value."""

TABLE_III = _table(
    _WITH_T,
    "SE SP JSC F1 AC AUC",
    (0.9696, 0.9872, 0.9858, 0.9658, 0.9828, 0.9784),
    (0.9555, 0.9945, 0.9850, 0.9690, 0.9849, 0.9750),
    (0.9734, 0.9866, 0.9836, 0.9638, 0.9836, 0.9800),
    (0.9826, 0.9918, 0.9897, 0.9780, 0.9897, 0.9872),
    (0.9832, 0.9944, 0.9918, 0.9823, 0.9918, 0.9889),
)
"""Lung: (network, t) -> column -> value."""

SECONDS = {"drive": 6.42, "stare": 8.66, "chase_db1": 2.84, "skin": 0.22, "lung": 1.15}
"""Table V: seconds of testing per sample, for an unnamed network, on one GTX 980 Ti (Section IV)."""
