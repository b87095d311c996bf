"""Inferers: a network over a volume slice by slice, and in the precision in which the processor is fastest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import nn
from torch.nn import functional

from monai_r2unet.errors import InputError, NotEnoughMemoryError
from monai_r2unet.inference.passes import filled, in_windows, mirrored
from monai_r2unet.inference.precision import fastest_type, run_exact, run_fast
from monai_r2unet.networks.devices import copy_on_cpu, is_out_of_memory
from monai_r2unet.transforms.fit import (
    field_of_view_scale,
    fit_in_plane,
    in_plane_size,
    in_plane_spacing,
    place_in_square,
    rescale,
)

__all__ = ["MixedPrecisionInferer", "SliceBySliceInferer", "is_out_of_memory"]

# Devices that have other kernels, which round differently, for batches of another size: a smaller last batch is filled.
KERNELS_BY_BATCH = ("cuda",)


class MixedPrecisionInferer(SimpleInferer):
    """`run_fast` for training without a gradient scaler: in bfloat16, which has the range of float32, or else float32.

    The ``amp`` of MONAI's engines has no effect on a CPU, and on a GPU uses float16 with a scaler that is in no
    checkpoint.
    """

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The network's output for ``inputs`` (N, C, H, W)."""
        if fastest_type(inputs.device) == torch.float16:
            return network(inputs, *args, **kwargs)
        return run_fast(network, inputs, *args, **kwargs)


class SliceBySliceInferer(Inferer):
    """Run a 2D network over every slice of a volume, or over a picture, batch by batch on the network's device.

    Each slice is scaled (``slice_transform``), fitted into ``slice_size`` pixels without changing its aspect ratio in
    mm, and segmented; then its probabilities are resized back. Only one batch of slices is floating point at a time. If
    the device runs out of memory, the batch is halved, down to one slice.

    Args:
        slice_size: Side in pixels of the network's square training images; ``None``: every slice keeps its size, for
            fully convolutional passes.
        batch_size: Slices per batch. Affects speed and memory; on a GPU, also the rounding of single voxels at borders.
        slice_transform: Transform of each batch (N, C, X, Y) in its own units before the fitting, such as a window in
            HU.
        threshold: Threshold of the uint8 mask, ``probability >= threshold``; ``None``: float32 probabilities.
        softmax: True if the network's channels are background and labels that do not overlap: probabilities are their
            softmax, and the mask holds the number of the most probable channel, without a ``threshold``. Otherwise each
            channel is an independent label with a sigmoid.
        body_above: Value, in the image's units, that separates body from air. A slice with less than ``body_share`` of
            its pixels above it is skipped, with the result 0. ``None``: no slice is skipped.
        body_share: Fraction of the pixels, see ``body_above``; from 0 to 1.
        float32: Always compute in float32, for results that do not depend on the processor; slower if the processor has
            a faster type (`fastest_type`).
        window: Inferer that runs the network over each slice patch by patch, such as MONAI's ``SlidingWindowInferer``;
            ``None``: one pass.
        mirror: Average the logits of each slice and its three mirror images, in four times the time. For networks
            trained with mirrored images.
        min_extent: Minimum extent in mm of the square of ``slice_size`` pixels: slices with a narrower field of view
            are padded, not magnified. ``None``: every slice fills the square.
        beyond: Values of the padding, (air, soft tissue) after ``slice_transform``, see
            `monai_r2unet.transforms.fit.fit_in_plane`. ``None``: zeros, on the far side.
        fov_diameter: Diameter in pixels of the field of view in the network's training photographs: fundus photographs
            are resized to it before the network, and its probabilities back. ``None``: no resizing.
    """

    def __init__(
        self,
        slice_size: int | None,
        batch_size: int = 1,
        slice_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        threshold: float | None = 0.5,
        body_above: float | None = None,
        body_share: float = 0.01,
        float32: bool = False,
        window: Inferer | None = None,
        mirror: bool = False,
        min_extent: float | None = None,
        fov_diameter: float | None = None,
        beyond: Sequence[float] | None = None,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        _check_number("slice_size", slice_size, whole=True, optional=True)
        _check_number("batch_size", batch_size, whole=True)
        _check_number("threshold", threshold, optional=True)
        _check_number("body_share", body_share)
        _check_number("min_extent", min_extent, optional=True)
        _check_number("fov_diameter", fov_diameter, optional=True)
        if slice_transform is not None and not callable(slice_transform):
            raise ValueError(f"slice_transform is a {type(slice_transform).__name__}, expected a transform")
        if beyond is not None and (len(beyond) != 2 or not all(isinstance(value, int | float) for value in beyond)):
            raise ValueError(
                f"beyond is {beyond!r}, expected two numbers: below which the edge is air, and soft tissue"
            )
        for name, switch in (("mirror", mirror), ("softmax", softmax)):
            if not isinstance(switch, bool):
                raise ValueError(f"{name} is {switch!r}, expected True or False")
        self.slice_size = slice_size
        self.batch_size = batch_size
        self.slice_transform = slice_transform
        self.threshold = threshold
        self.body_above = body_above
        self.body_share = body_share
        self.float32 = float32
        self.window = window
        self.mirror = mirror
        self.softmax = softmax
        self.min_extent = min_extent
        self.fov_diameter = fov_diameter
        self.beyond = None if beyond is None else (float(beyond[0]), float(beyond[1]))
        # Continue on the CPU, with a warning, if a GPU lacks memory for one slice.
        self.cpu_fallback = False
        # Batches that fitted into a device's memory where ``batch_size`` did not, by device and shape of the slices.
        self._fitting: dict[tuple[str, torch.Size], int] = {}

    @torch.no_grad()
    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        *args: Any,
        probabilities: bool = False,
        channels: int | None = None,
        scale: Sequence[float] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Segment a volume or a picture. Several threads may use one inferer.

        Args:
            inputs: One volume (1, C, X, Y, Z), slices along Z, or one picture (1, C, X, Y); any dtype. A MetaTensor's
                spacing sets the aspect ratio of a volume.
            network: Network that maps (N, C, size, size) to logits (N, K, size, size).
            *args: Passed on to the network.
            probabilities: Return probabilities even if there is a ``threshold``.
            channels: Expected K, if known.
            scale: Resizing factor of each slice before the network, replacing those from ``fov_diameter``; only with a
                ``fov_diameter``.
            on_progress: Called after every batch with the number of finished slices and their total; may raise to stop.
            **kwargs: Passed on to the network.

        Returns:
            (1, K, X, Y[, Z]): uint8 mask or float32 probabilities, see ``threshold``, on the device of ``inputs``; a
            MetaTensor if ``inputs`` is one. With ``softmax`` a mask is (1, 1, X, Y[, Z]), 0 background.

        Raises:
            ValueError: if ``inputs`` is not one volume or picture.
            InputError: if the network does not have ``channels``.
            NotEnoughMemoryError: if memory is too small for one slice.
        """
        if inputs.ndim not in (4, 5) or inputs.shape[0] != 1 or 0 in inputs.shape:
            raise ValueError(
                "SliceBySliceInferer takes one volume (1, C, X, Y, Z) or picture (1, C, X, Y), got "
                f"{tuple(inputs.shape)}"
            )
        spacing = in_plane_spacing(inputs[0])
        volume = torch.as_tensor(inputs)
        if isinstance(volume, MetaTensor):
            volume = volume.as_tensor()
        slices = (volume[0] if volume.ndim == 5 else volume[0, ..., None]).movedim(-1, 0)
        scales = self._scales(slices, scale)
        threshold = None if probabilities else self.threshold

        def segment(
            batch: torch.Tensor, device: torch.device, factor: float, network: Any, filled_to: int = 1
        ) -> torch.Tensor:
            run = filled(network, filled_to)
            found = self._probabilities(batch, device, spacing, factor, run, *args, **kwargs)
            if channels is not None and found.shape[1] != channels:
                raise InputError(
                    f"the network gives {found.shape[1]} channels, but {channels} are expected "
                    f"({'background and labels' if self.softmax else 'one for each label'}): correct out_channels of "
                    "the network, or the labels in configs/metadata.json"
                )
            if threshold is None:
                return found
            # Decided on the device: one byte a voxel is copied back, not a number for each channel.
            decided = found.argmax(1, keepdim=True) if self.softmax else found >= threshold
            return decided.to(torch.uint8)

        result = self._run(slices, scales, network, segment, on_progress).movedim(0, -1)[None]
        result = result if volume.ndim == 5 else result[..., 0]
        # With the metadata of the input, without which MONAI's Invertd does not change it.
        like_inputs: torch.Tensor = convert_to_dst_type(result, inputs, dtype=result.dtype)[0]
        return like_inputs

    def _scales(self, slices: torch.Tensor, given: Sequence[float] | None) -> Sequence[float]:
        """Resizing factors of ``slices`` (N, C, X, Y) before the network; empty without a ``fov_diameter``."""
        if self.fov_diameter is None:
            if given is not None:
                raise ValueError("scale is given, but the inferer has no fov_diameter that it could replace")
            return []
        if given is not None:
            if len(given) != len(slices):
                raise ValueError(f"scale has {len(given)} factors, expected one for each of {len(slices)} slices")
            return given
        return [field_of_view_scale(one, self.fov_diameter) or 1.0 for one in slices]

    def _run(
        self,
        slices: torch.Tensor,
        scales: Sequence[float],
        network: Any,
        segment: Callable[..., torch.Tensor],
        on_progress: Callable[[int, int], None] | None,
    ) -> torch.Tensor:
        """Apply ``segment`` to ``slices`` (N, C, X, Y) in batches; the result has the network's channels."""
        device = next(network.parameters()).device if isinstance(network, nn.Module) else slices.device
        todo = self._with_body(slices)
        key = (str(device), slices.shape[1:])
        batch_size = min(self.batch_size, self._fitting.get(key, self.batch_size))
        result: torch.Tensor | None = None
        done = 0
        while done < len(todo):
            # Photographs one by one, because the slices of a batch have one size.
            indices = todo[done : done + (1 if scales else batch_size)]
            factor = scales[indices[0]] if scales else 1.0
            filled_to = batch_size if device.type in KERNELS_BY_BATCH and not scales else 1
            try:
                part = segment(slices[indices], device, factor, network, filled_to)
                if result is None:
                    result = self._nothing_for(part, slices)
                result[indices] = part.to(result.device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                full = error
            else:
                done += len(indices)
                if on_progress is not None:
                    on_progress(done, len(todo))
                continue
            # Here, and not in the handler, where the error would keep the failed batch alive.
            batch_size = len(indices) // 2
            if batch_size > 0:
                self._fitting[key] = batch_size
            elif device.type != "cpu" and self.cpu_fallback:
                del full  # with it the failed batch
                warnings.warn(f"{device} does not have enough memory for one slice: continued on the CPU", stacklevel=4)
                device, batch_size = torch.device("cpu"), self.batch_size
                network = copy_on_cpu(network)  # the caller's stays where it is
                continue
            else:
                raise NotEnoughMemoryError(
                    f"not enough memory on {device} for one slice of {' x '.join(map(str, slices.shape[-2:]))} pixels: "
                    "close other programs" + ("" if device.type == "cpu" else " or choose the CPU")
                ) from full
            del full
            if device.type == "cuda":
                torch.cuda.empty_cache()
        if result is None:  # nothing was run, but the network knows how many channels it has
            result = self._nothing_for(segment(slices[:1], device, 1.0, network), slices)
        return result

    def _nothing_for(self, part: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
        """Zeros (N, K, X, Y) for the results of all ``slices``; ``part`` is the result of one batch.

        They are on the device of the image, because the network's need not hold them all, and in the memory layout of
        images: slice by slice, X running fastest.
        """
        channels, x, y = part.shape[1:]
        result = torch.zeros((len(slices), channels, y, x), dtype=part.dtype, device=slices.device).transpose(2, 3)
        if self.softmax and part.is_floating_point():
            result[:, 0] = 1
        return result

    def _with_body(self, slices: torch.Tensor) -> list[int]:
        """Indices of the slices to run."""
        if self.body_above is None:
            return list(range(len(slices)))
        above = [int(torch.count_nonzero(one > self.body_above)) for one in slices]
        return [index for index, pixels in enumerate(above) if pixels >= self.body_share * slices[index].numel()]

    def _probabilities(
        self,
        batch: torch.Tensor,
        device: torch.device,
        spacing: tuple[float, float] | None,
        factor: float,
        network: Callable[..., torch.Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Probabilities (N, K, X, Y), float32 on ``device``, of one batch (N, C, X, Y)."""
        size = (batch.shape[-2], batch.shape[-1])
        # Always in one memory layout, because sums in another order round differently.
        images = rescale(batch.to(device), factor, "image").contiguous().float()
        scaled = (images.shape[-2], images.shape[-1])
        fitted = scaled
        if self.slice_size is not None:
            fitted = in_plane_size(self.slice_size, scaled, spacing, self.min_extent)
        if self.slice_transform is not None:
            # A plain tensor: MetaTensors slow the network down.
            images = convert_to_tensor(self.slice_transform(images))
        if self.slice_size is not None:
            images = fit_in_plane(images, self.slice_size, fitted, "image", self.beyond)
        run = partial(run_exact if self.float32 else run_fast, network)
        if self.window is not None:
            run = partial(in_windows, self.window, run)
        logits = mirrored(run, images, *args, **kwargs) if self.mirror else run(images, *args, **kwargs)
        if self.slice_size is not None:
            x, y = place_in_square(self.slice_size, fitted, self.beyond)
            logits = logits[..., x, y]
        probabilities = logits.float().softmax(1) if self.softmax else torch.sigmoid(logits.float())
        if fitted != size:
            # Antialiased where it is exact to do so: of a photograph that was enlarged for the network.
            probabilities = functional.interpolate(
                probabilities, size, mode="bilinear", align_corners=False, antialias=factor > 1
            )
        return probabilities


def _check_number(name: str, value: object, *, whole: bool = False, optional: bool = False) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int if whole else (int, float)) or value < (1 if whole else 0):
        raise ValueError(f"{name} is {value!r}, expected a {'whole number from 1' if whole else 'number from 0'}")
