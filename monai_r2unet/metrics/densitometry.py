"""Densities in a CT mask, as quantitative CT of the lung reports them.

Sources: voxels below -950 HU as a measure of emphysema: Gevenois et al., Am J Respir Crit Care Med 152 (1995) 653; the
15th percentile: Parr et al., Thorax 61 (2006) 485; poorly aerated (from -500 HU) and not aerated lung (up to 100 HU),
here together called opacified: Gattinoni et al., Am J Respir Crit Care Med 164 (2001) 1701.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = ["densitometry"]

EMPHYSEMA_BELOW = -950  # HU
OPACIFIED = (-500, 100)  # HU, both included
HISTOGRAM_EDGES = range(-1000, 201, 50)  # HU
TOTAL = "total"
# Names of an axis's two ends, by the direction in which it points, in LPS.
ENDS = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))


def densitometry(image: sitk.Image, mask: sitk.Image, labels: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Measure the volume and the densities of each label of a CT mask.

    Args:
        image: CT in HU, 3D.
        mask: Label map on the image's grid, 0 background.
        labels: Name of each label by its value. If there are several, ``"total"`` stands for all together.

    Returns:
        For each name:

        - ``volume_ml``: volume in mL;
        - ``mean_hu``, ``median_hu``, ``std_hu``: mean, median and (population) standard deviation in HU;
        - ``p15_hu``: 15th percentile in HU, linear between voxels;
        - ``laa950_percent``: low attenuation area, voxels below -950 HU in percent;
        - ``opacified_percent``: voxels from -500 to 100 HU, both included, in percent;
        - ``histogram``: ``edges_hu`` and ``voxels`` in each bin [edge, next edge); the first and the last bin also hold
          what is beyond them;
        - ``touches_border``: the faces of the image that the label reaches, such as ``["left", "inferior"]``: beyond
          them a part of it may be missing.

        NaN and infinite voxels count in the volume alone. All but volume, histogram and borders are ``None`` for a
        label without a voxel.
    """
    values, where = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask)
    found = where > 0
    hu, value = values[found].astype(np.float64), where[found]
    voxel = float(np.prod(image.GetSpacing())) / 1000.0
    numbers = {
        name: {**_densities(hu[value == label], voxel), "touches_border": _borders(mask, where == label)}
        for label, name in labels.items()
    }
    if len(labels) > 1:
        numbers[TOTAL] = {**_densities(hu, voxel), "touches_border": _borders(mask, found)}
    return numbers


def _densities(hu: npt.NDArray[np.float64], voxel: float) -> dict[str, Any]:
    numbers: dict[str, Any] = {"volume_ml": hu.size * voxel}
    hu = hu[np.isfinite(hu)]
    edges = np.array(HISTOGRAM_EDGES)
    bins = np.clip(np.searchsorted(edges, hu, side="right") - 1, 0, len(edges) - 2)
    histogram = np.bincount(bins, minlength=len(edges) - 1)
    names = ("mean_hu", "median_hu", "std_hu", "p15_hu", "laa950_percent", "opacified_percent")
    if hu.size:
        p15, median = np.percentile(hu, [15, 50])
        low, high = OPACIFIED
        shares = (np.mean(hu < EMPHYSEMA_BELOW), np.mean((hu >= low) & (hu <= high)))
        measured = (hu.mean(), median, hu.std(), p15, *(100 * share for share in shares))
        numbers |= {name: float(number) for name, number in zip(names, measured, strict=True)}
    else:
        numbers |= dict.fromkeys(names)
    return {**numbers, "histogram": {"edges_hu": edges.tolist(), "voxels": histogram.tolist()}}


def _borders(image: sitk.Image, found: npt.NDArray[np.bool_]) -> list[str]:
    """The faces of the image, by their anatomical names, that a mask (Z, Y, X) reaches; axes of one voxel have none."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    reached = []
    for axis in range(3):
        across = tuple(other for other in range(3) if other != 2 - axis)
        ends = np.asarray(found.take([0, -1], axis=2 - axis).any(axis=across)).tolist()
        anatomical = int(np.argmax(np.abs(direction[:, axis])))
        names = ENDS[anatomical] if direction[anatomical, axis] > 0 else ENDS[anatomical][::-1]
        if found.shape[2 - axis] > 1:
            reached += [name for name, there in zip(names, ends, strict=True) if there]
    return sorted(reached)
