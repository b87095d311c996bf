"""The tables on the scale of images in the docs."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.records import RESULTS
from benchmarks.speed_tables import NotMeasured, table

__all__ = ["TABLES"]


def ct() -> str:
    """Dice of every form of a validation scan by minimum extent."""
    forms: dict[str, dict[str, float]] = read("scale_ct")["dice"]
    extents = list(next(iter(forms.values())))
    rows = [[name, *(f"{dice[extent]:.3f}" for extent in extents)] for name, dice in forms.items()]
    return table(["LCTSC 006", *extents], rows)


def retina() -> str:
    """F1 of every bundle on the other data sets."""
    rows = []
    for pair, found in read("scale_retina")["across"].items():
        at_scale, own = found["at_the_bundle_s_scale"], found["at_their_own_pixels"]
        bundle, _, data = pair.partition(" on ")
        worst = f"{at_scale['worst_f1']:.2f} ({at_scale['worst']})"
        rows.append([f"`{bundle}` on {data.upper()}", str(at_scale["photographs"]), f"{own['f1']:.3f}"])
        rows[-1] += [f"{at_scale['f1']:.3f}", worst]
    return table(["bundle on data set", "photographs", "at their own pixels", "at the bundle's scale", "worst"], rows)


def zoom() -> str:
    """F1 of enlarged and reduced photographs."""
    bundles = read("scale_retina")["zoomed"]
    factors = list(next(iter(bundles.values()))) if bundles else []
    rows = [[f"`{name}`", *(f"{found[factor]['f1']:.3f}" for factor in factors)] for name, found in bundles.items()]
    return table(["bundle", *(f"x {factor}" for factor in factors)], rows)


def read(name: str) -> dict[str, Any]:
    """The content of a result file.

    Raises:
        NotMeasured: if the file does not exist.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise NotMeasured(f"Not measured yet (`python -m benchmarks.{name}`).")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


TABLES = {"scale_ct": ct, "scale_retina": retina, "scale_zoom": zoom}
