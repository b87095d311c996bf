"""The paper's four networks and Attention R2U-Net: one builder, five classes that differ only in their unit.

Source: Alom et al. 2018, arXiv:1802.06955, Sec. III and Fig. 3-5. All networks return logits: apply a sigmoid to get
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from monai_r2unet.networks.blocks import RecurrentUnit, UpConcatenate

__all__ = ["AttentionR2UNet", "ForwardUNet", "R2UNet", "RUNet", "ResUNet"]


class EncoderDecoder(nn.Module):
    """U-Net with any convolutional unit: encoder, max pooling by 2, up-convolution, concatenation, 1x1 head.

    Base class of the five networks, which share its arguments so that they can be exchanged in a configuration. Accepts
    any image whose sides are at least ``2 ** (len(channels) - 1)`` pixels; the output has the size of the input.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        channels: Feature maps of each stage, top first; the paper's small network is 16-32-64-128, its large one
            64-128-256-512.
        recurrences: The paper's t; networks without recurrence accept and ignore it.
        recurrence: How kernels are shared over time, see :class:`~monai_r2unet.networks.blocks.RecurrentConvolution`;
            ignored by networks without recurrence; ``"tied"`` needs the residual ``"input"``.
        norm_per_step: A norm module for every time step; ignored by networks without recurrence.
        residual: ``"input"`` (Eq. 3) or ``"shortcut"``, see :class:`~monai_r2unet.networks.blocks.RecurrentUnit`;
            ignored by networks without residual.
        layers: Convolutional layers in a unit.
        kernel_size: Odd kernel size of the convolutional layers.
        act: Activation, MONAI's name or (name, arguments); ``None`` for none.
        norm: Normalisation, MONAI's name or (name, arguments); ``None`` for none.
        dropout: Probability of dropping a channel.
        bias: Give the feed-forward convolutions a bias.
        upsample: MONAI's ``UpSample`` mode, ``"deconv"`` in the paper.

    Raises:
        ValueError: on ``spatial_dims`` other than 2 or 3, fewer than two stages, a stage without channels, or an option
            that a layer refuses.
    """

    # The only differences between the five networks.
    _recurrent = True
    _residual = True
    _attention = False

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        recurrences: int = 2,
        recurrence: str = "shared",
        norm_per_step: bool = True,
        residual: str = "input",
        layers: int = 2,
        kernel_size: int = 3,
        act: str | tuple[str, dict[str, Any]] | None = "RELU",
        norm: str | tuple[str, dict[str, Any]] | None = "BATCH",
        dropout: float = 0.0,
        bias: bool = False,
        upsample: str = "deconv",
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments = given  # with which a configuration makes this network again
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"channels needs a positive number for each of at least two stages, got {tuple(channels)}")

        def unit(unit_in: int, unit_out: int) -> RecurrentUnit:
            return RecurrentUnit(
                spatial_dims,
                unit_in,
                unit_out,
                residual=residual if self._residual else None,
                layers=layers,
                recurrences=recurrences if self._recurrent else 0,
                recurrence=recurrence if self._recurrent else "shared",
                norm_per_step=norm_per_step,
                kernel_size=kernel_size,
                act=act,
                norm=norm,
                dropout=dropout,
                bias=bias,
            )

        pool = Pool[Pool.MAX, spatial_dims]
        self.stem = unit(in_channels, channels[0])
        self.encoders = nn.ModuleList(
            nn.Sequential(pool(kernel_size=2, stride=2), unit(above, here)) for above, here in pairwise(channels)
        )
        upwards = list(pairwise(channels[::-1]))  # (coarse, fine), deepest first
        self.ups = nn.ModuleList(
            UpConcatenate(spatial_dims, coarse, fine, upsample, self._attention) for coarse, fine in upwards
        )
        self.decoders = nn.ModuleList(unit(2 * fine, fine) for _, fine in upwards)
        self.head = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, in_channels, H, W[, D]) to logits (B, out_channels, H, W[, D])."""
        x = self.stem(x)
        skips: list[torch.Tensor] = []
        for encoder in self.encoders:
            skips.append(x)
            x = encoder(x)
        for up, decoder in zip(self.ups, self.decoders):  # noqa: B905
            x = decoder(up(x, skips.pop()))
        logits: torch.Tensor = self.head(x)
        return logits


class ForwardUNet(EncoderDecoder):
    """U-Net with forward convolutional units, Fig. 4 (a) of the paper. Arguments: :class:`EncoderDecoder`."""

    _recurrent = False
    _residual = False


class RUNet(EncoderDecoder):
    """RU-Net: recurrent convolutional units, Fig. 4 (b) of the paper. Arguments: :class:`EncoderDecoder`."""

    _residual = False


class ResUNet(EncoderDecoder):
    """ResU-Net: residual convolutional units, Fig. 4 (c) of the paper. Arguments: :class:`EncoderDecoder`."""

    _recurrent = False


class R2UNet(EncoderDecoder):
    """R2U-Net: recurrent residual convolutional units, Fig. 4 (d) of the paper. Arguments: :class:`EncoderDecoder`.

    Examples:
        >>> R2UNet(in_channels=3)(torch.zeros(1, 3, 33, 47)).shape
        torch.Size([1, 1, 33, 47])
    """


class AttentionR2UNet(EncoderDecoder):
    """R2U-Net with attention gates (Oktay et al. 2018) on its skips; not in the paper.

    Arguments: :class:`EncoderDecoder`.
    """

    _attention = True
