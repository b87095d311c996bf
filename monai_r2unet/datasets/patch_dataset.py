"""Photographs kept on the device, complete or cut into batches of random patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import distributed
from torch.utils.data import Dataset, IterableDataset
from tqdm import tqdm

from monai_r2unet.errors import InputError
from monai_r2unet.transforms.patches import RandomGeometry

__all__ = ["PatchDataset", "PictureDataset"]

Picture = dict[str, Any]


class PictureDataset(Dataset):  # type: ignore[type-arg]
    """Complete photographs, loaded and prepared once and kept in memory.

    Args:
        data: Entries of a data list, ``{"image": path, "label": path}``, with or without ``"fov"``.
        transform: Loads and prepares one entry: image (C, X, Y), label and field of view (1, X, Y).
        channels: Expected number of image channels.
        progress: Show a bar on standard error while loading.

    Raises:
        InputError: if an image has a different number of channels, or its label or field of view a different size.

    Items are ``{"image": (C, X, Y), "label": (1, X, Y), "fov": (1, X, Y), "case": name of the image file}``, float32
    tensors. If there is no field of view, the complete photograph counts.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        channels: int = 3,
        progress: bool = True,
    ) -> None:
        self.data = data
        self.channels = channels
        bar = tqdm(data, desc="Loading photographs", disable=None if progress else True, leave=False)
        self.pictures = [self._checked(entry, transform(entry)) for entry in bar]

    def _checked(self, entry: Mapping[str, Any], prepared: Mapping[str, Any]) -> Picture:
        # A field of view that the transform does not load is still a path: the bundle does not need it.
        loaded = [key for key in ("image", "label", "fov") if not isinstance(prepared.get(key, ""), str)]
        picture = {key: convert_to_tensor(prepared[key]).float() for key in loaded}
        if len(picture["image"]) != self.channels:
            raise InputError(
                f"image {entry['image']} has {len(picture['image'])} values per pixel, expected {self.channels}: "
                "convert it to RGB"
            )
        size = tuple(picture["image"].shape[1:])
        for key, value in picture.items():
            if tuple(value.shape[1:]) != size:
                raise InputError(
                    f"image {entry['image']} has {size[0]} x {size[1]} pixels but its {key} {entry[key]} has "
                    f"{' x '.join(map(str, value.shape[1:]))}; both must be of the same size"
                )
        picture.setdefault("fov", torch.ones_like(picture["label"]))
        return {**picture, "case": Path(str(entry["image"])).name}

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int) -> Picture:
        return dict(self.pictures[item])


class PatchDataset(IterableDataset):  # type: ignore[type-arg]
    """Random square patches of photographs, cut and changed on the device, one batch at a time.

    A patch may come from anywhere in a photograph, even outside its field of view. Photographs are drawn in turn, each
    equally often. If a photograph is no larger than a patch, the patch is the complete photograph, so this class also
    trains on complete images. In distributed training the processes share the patches of an epoch.

    Args:
        data: Entries of a data list, ``{"image": path, "label": path}``.
        transform: Loads and prepares one entry: image (C, X, Y), label (1, X, Y), foreground > 0 or, with several
            ``labels``, their values.
        patch_size: Side of the patches in pixels.
        patches: Number of patches per epoch; None for the number of photographs.
        batch_size: Patches per batch in each process; an incomplete last batch is dropped.
        device: Device of the photographs and patches.
        geometry: How patches are rotated, mirrored, scaled and shifted; None for no change.
        intensity: Changes the values of a batch of images (N, C, X, Y), given the batch and the random generator; None
            for no change.
        fixed: Draw the patches' positions only once: every epoch shows the same patches, in another order.
        channels: Expected number of image channels.
        progress: Show a bar on standard error while loading.
        labels: Number of labels. Where a patch is interpolated, a pixel gets the value with the largest share.

    Raises:
        InputError: as :class:`PictureDataset`, or if ``patch_size``, ``patches`` or ``batch_size`` is below 1, or there
            are fewer patches than processes.

    Items are complete batches, ``{"image": (N, C, S, S), "label": (N, 1, S, S)}``, float32, on the device: pass them to
    a DataLoader with ``batch_size=None``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        patch_size: int,
        patches: int | None,
        batch_size: int,
        device: torch.device | str = "cpu",
        geometry: RandomGeometry | None = None,
        intensity: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
        fixed: bool = False,
        channels: int = 3,
        progress: bool = True,
        labels: int = 1,
    ) -> None:
        pictures = PictureDataset(data, transform, channels, progress).pictures
        self.data = data
        self.patch_size = patch_size
        self.patches = len(pictures) if patches is None else patches
        self.batch_size = batch_size
        self.labels = labels
        for name, value in (("patch_size", patch_size), ("patches", self.patches), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name} is {value}, expected 1 or more")
        processes = _rank_and_processes()[1]
        if self.patches < processes:
            raise InputError(
                f"patches is {self.patches} for {processes} processes, expected at least one for each; start fewer "
                "processes",
                remedy="make more",
                option="patches",
                value=processes,
            )
        self.device = torch.device(device)
        self.geometry = geometry
        self.intensity = intensity
        # One row per pixel, image channels and a channel for each label, so that a patch is a single look-up. Half
        # precision is finer than the photographs' 8 bits.
        rows = [torch.cat([p["image"], *self._channels_of(p["label"])]).flatten(1).T.half() for p in pictures]
        self._pixels = torch.cat(rows).to(self.device)
        counts = torch.tensor([len(row) for row in rows])
        self._starts = (counts.cumsum(0) - counts).to(self.device)
        self._sizes = torch.tensor([p["image"].shape[1:] for p in pictures], device=self.device)
        # Drawn with a separate seed, so that the patches are the same in every process and after resuming.
        generator = torch.Generator(self.device).manual_seed(0)
        self._fixed = self._places(self.patches, generator) if fixed else None

    def _channels_of(self, label: torch.Tensor) -> list[torch.Tensor]:
        """A channel (1, X, Y) for each label: 1 inside, 0 outside."""
        if self.labels == 1:
            return [(label > 0).float()]
        return [(label == value).float() for value in range(1, self.labels + 1)]

    @property
    def has_foreground(self) -> bool:
        """Whether any mask holds a label."""
        return bool(self._pixels[:, -self.labels :].any())

    def __len__(self) -> int:
        """Batches per epoch in this process."""
        return max(1, self.patches // _rank_and_processes()[1] // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Drawn from the global generator, like PyTorch's own samplers, so that the training's seed decides. All
        # processes draw the same number: they agree on the order of the epoch, and each takes its own part.
        seed = int(torch.randint(2**62, ()).item())
        generator = torch.Generator(self.device).manual_seed(seed)
        which, corners = self._fixed or self._places(self.patches, generator)
        order = torch.randperm(self.patches, generator=generator, device=self.device)
        rank, processes = _rank_and_processes()
        generator.manual_seed(seed + 1 + rank)
        # The same number for each process: gradients are averaged over their batches.
        mine = order[rank : self.patches // processes * processes : processes]
        for batch in mine.split(self.batch_size)[: len(self)]:
            yield self.cut(which[batch], corners[batch], generator)

    def _places(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Photographs (N) and near corners (N, 2) of ``count`` random patches, in integer pixels."""
        which = torch.arange(count, device=self.device) % len(self._sizes)
        room = self._sizes[which] - self.patch_size
        draw = torch.rand(count, 2, generator=generator, device=self.device)
        corners = torch.where(room > 0, (draw * (room + 1)).long().minimum(room), 0)
        return which, corners

    def cut(self, which: torch.Tensor, corners: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Cut a batch of patches.

        Args:
            which: Indices of the photographs, (N,).
            corners: Pixel of each patch nearest to the origin of its photograph, (N, 2); image and label are 0 outside
                the photograph.
            generator: Generator of the random changes, on the device.
        """
        size, count = self.patch_size, len(which)
        axis = torch.arange(size, device=self.device) - (size - 1) / 2
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).expand(count, size, size, 2)
        if self.geometry is not None:
            grid = self.geometry(grid, generator)
        points = grid + (corners + (size - 1) / 2)[:, None, None]
        values = self._interpolate(which, points).permute(0, 3, 1, 2)
        image, shares = values[:, : -self.labels], values[:, -self.labels :]
        if self.labels == 1:
            label = (shares >= 0.5).float()
        else:  # what no label has is the background's
            label = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1).argmax(1, keepdim=True).float()
        if self.intensity is not None:
            image = self.intensity(image, generator)
        return {"image": image, "label": label}

    def _interpolate(self, which: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Bilinear values (N, S, S, C + labels) of the photographs at points (N, S, S, 2); 0 outside."""
        low = points.floor()
        share = points - low
        sizes, starts = self._sizes[which][:, None, None], self._starts[which][:, None, None]
        total = torch.zeros((), device=self.device)
        for step_x in (0, 1):
            for step_y in (0, 1):
                step = torch.tensor([step_x, step_y], device=self.device)
                corner = low.long() + step
                weight = torch.where(step == 1, share, 1 - share).prod(-1)
                weight = weight * ((corner >= 0) & (corner < sizes)).all(-1)
                corner = corner.clamp(min=0).minimum(sizes - 1)
                rows = starts + corner[..., 0] * sizes[..., 1] + corner[..., 1]
                total = total + weight[..., None] * self._pixels[rows].float()
        return total


def _rank_and_processes() -> tuple[int, int]:
    """This process's rank and the number of processes; Ignite reports the same, but takes a second to import."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
