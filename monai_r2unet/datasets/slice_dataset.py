"""Volumes served one axial slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from monai_r2unet.errors import InputError

__all__ = ["SliceDataset"]


class SliceDataset(Dataset):  # type: ignore[type-arg]
    """Axial slices of volumes, which are loaded and prepared once and kept in memory; an epoch shows every slice once.

    Args:
        data: Entries of a data list, ``{"image": path, "label": path}``; complete volumes of any depth.
        volume_transform: Loads and prepares one entry: volumes (C, X, Y, Z) under ``"image"`` and ``"label"``.
        slice_transform: Applied to each slice (C, X, Y) as it is drawn; random transforms belong here.
        progress: Show a bar on standard error while loading.

    Raises:
        InputError: if image and label of an entry have different shapes, or its weight is not a number from 0.

    Attributes:
        weights: for each slice its entry's ``"weight"``, 1 where there is none: how often it is to be drawn relative to
            others, for torch's ``WeightedRandomSampler``.

    Items are ``{"image": (C, X, Y), "label": (1, X, Y), "case": name of the image file, "slice": index along Z}``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        volume_transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        slice_transform: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
        progress: bool = True,
    ) -> None:
        self.data = data
        self.slice_transform = slice_transform
        self.volumes: list[dict[str, torch.Tensor]] = []
        self.index: list[tuple[int, int]] = []
        self.weights: list[float] = []
        for entry in tqdm(data, desc="Loading volumes", disable=None if progress else True, leave=False):
            self._add(entry, volume_transform(entry))

    def _add(self, entry: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
        volume = {key: torch.as_tensor(prepared[key]) for key in ("image", "label")}
        if volume["image"].shape[1:] != volume["label"].shape[1:]:
            raise InputError(
                f"image {entry['image']} has shape {tuple(volume['image'].shape[1:])} but its label {entry['label']} "
                f"has {tuple(volume['label'].shape[1:])}; both must lie on the same grid"
            )
        weight = entry.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise InputError(f"the weight of {entry['image']} is {weight!r}, expected a number from 0")
        self.weights += [float(weight)] * volume["image"].shape[-1]
        self.index += [(len(self.volumes), k) for k in range(volume["image"].shape[-1])]
        self.volumes.append(volume)

    @property
    def has_foreground(self) -> bool:
        """Whether any mask holds a label."""
        return any(bool(volume["label"].any()) for volume in self.volumes)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Any]:
        case, k = self.index[item]
        drawn: Mapping[str, Any] = {key: volume[..., k].clone() for key, volume in self.volumes[case].items()}
        if self.slice_transform is not None:
            drawn = self.slice_transform(drawn)
        name = Path(str(self.data[case]["image"])).name
        return {"image": drawn["image"], "label": drawn["label"], "case": name, "slice": k}
