"""How a network is run: over a volume slice by slice, and in the precision that the processor is fast in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn import functional

from monai_r2unet.transforms import fit_in_plane, in_plane_size

__all__ = ["MixedPrecisionInferer", "SliceBySliceInferer", "cpu_has_bfloat16"]


def cpu_has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 itself (AVX512-BF16 or AMX); emulated, it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class MixedPrecisionInferer(SimpleInferer):
    """Run the network in bfloat16 where a CPU computes in it, and give float32 logits; elsewhere run it plainly.

    For training on the CPU, which MONAI's engines' ``amp`` does not cover. On CUDA ``amp`` decides.
    """

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The network's output for ``inputs``, float32 on the CPU."""
        if inputs.device.type != "cpu":
            return network(inputs, *args, **kwargs)
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16()):
            return network(inputs, *args, **kwargs).float()


class SliceBySliceInferer(Inferer):
    """Run a 2D network over every slice of a volume, all on the network's device, batch by batch.

    Each slice is scaled (``slice_transform``), fitted into ``slice_size`` pixels with its aspect in mm kept, segmented,
    and its probabilities are resized back. Only one batch of slices is floating point at a time.

    Args:
        slice_size: side in pixels of the square images the network was trained on.
        batch_size: slices at a time; changes nothing but speed and memory.
        slice_transform: applied to each batch (N, C, X, Y) in its own units before the fitting, as a window in HU.
        threshold: the result is a uint8 mask of ``probability >= threshold``; ``None``: float32 probabilities.
    """

    def __init__(
        self,
        slice_size: int,
        batch_size: int = 1,
        slice_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        threshold: float | None = 0.5,
    ) -> None:
        super().__init__()
        self.slice_size = slice_size
        self.batch_size = batch_size
        self.slice_transform = slice_transform
        self.threshold = threshold
        # Called after every batch with the slices done and their total.
        self.on_progress: Callable[[int, int], None] | None = None

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Segment a volume.

        Args:
            inputs: one volume (1, C, X, Y, Z), slices along Z, any dtype. A MetaTensor's spacing sets the aspect.
            network: maps (N, C, size, size) to logits (N, K, size, size).
            *args: passed on to the network.
            **kwargs: passed on to the network.

        Returns:
            (1, K, X, Y, Z): uint8 mask or float32 probabilities, see ``threshold``, on the device of ``inputs``.

        Raises:
            ValueError: if ``inputs`` is not one volume.
        """
        if inputs.ndim != 5 or inputs.shape[0] != 1:
            raise ValueError(f"SliceBySliceInferer takes one volume (1, C, X, Y, Z), got shape {tuple(inputs.shape)}")
        spacing = self._in_plane_spacing(inputs)
        volume = torch.as_tensor(inputs)
        if isinstance(volume, MetaTensor):
            volume = volume.as_tensor()
        x, y, count = volume.shape[2:]
        fitted = in_plane_size(self.slice_size, (x, y), spacing)
        device = next(network.parameters()).device if isinstance(network, nn.Module) else volume.device

        result: torch.Tensor | None = None
        for start in range(0, count, self.batch_size):
            batch = volume[0, ..., start : start + self.batch_size].movedim(-1, 0).to(device, torch.float32)
            if self.slice_transform is not None:
                batch = convert_to_tensor(self.slice_transform(batch))  # a plain one: MetaTensors slow the network down
            logits = network(fit_in_plane(batch, self.slice_size, fitted, "image"), *args, **kwargs)
            probabilities = torch.sigmoid(logits[..., : fitted[0], : fitted[1]].float())
            if fitted != (x, y):
                probabilities = functional.interpolate(probabilities, (x, y), mode="bilinear", align_corners=False)
            if self.threshold is not None:
                probabilities = (probabilities >= self.threshold).to(torch.uint8)
            if result is None:
                shape = (1, probabilities.shape[1], x, y, count)
                result = torch.zeros(shape, dtype=probabilities.dtype, device=volume.device)
            done = min(start + self.batch_size, count)
            result[0, ..., start:done] = probabilities.movedim(0, -1).to(volume.device)
            if self.on_progress is not None:
                self.on_progress(done, count)
        if result is None:
            raise ValueError("SliceBySliceInferer got a volume without slices")
        return result

    @staticmethod
    def _in_plane_spacing(inputs: torch.Tensor) -> tuple[float, float]:
        if not isinstance(inputs, MetaTensor):
            return 1.0, 1.0
        affine = torch.as_tensor(inputs.affine).reshape(-1, 4, 4)[0]
        columns = affine[:3, :2].norm(dim=0)
        return float(columns[0]), float(columns[1])
