"""The units of the paper's Fig. 4, built from MONAI's layers.

Source: Alom et al. 2018, "Recurrent Residual Convolutional Neural Network based on U-Net (R2U-Net) for Medical Image
Segmentation", arXiv:1802.06955, Sec. III.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Dropout
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from monai.networks.nets.attentionunet import AttentionBlock
from torch import nn

__all__ = ["RecurrentConvolution", "RecurrentUnit", "UpConcatenate", "freeze_batch_norm"]

RECURRENCES = ("shared", "tied", "unshared")
RESIDUALS = ("input", "shortcut", None)


class RecurrentConvolution(nn.Module):
    """Recurrent convolutional layer (RCL), Eq. (1) and (2) of the paper, unrolled over time (Fig. 5).

    ``h(0) = f(norm_0(w_f * x))`` and ``h(t) = f(norm_t(w_f * x + w_r * h(t-1)))`` for ``t = 1 .. recurrences``.
    ``w_f * x`` does not depend on t and is computed once. With ``recurrences=0`` this is a plain convolution.

    Deviations from the paper, which does not mention normalisation: here a norm follows every time step. By default
    each step has its own norm module, because the statistics of h(0) and h(t) differ and a shared module leaves a gap
    between training and evaluation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        recurrences: The paper's t, the number of recurrent convolutions after the feed-forward one.
        recurrence: ``"shared"``, one recurrent kernel w_r for all time steps (Eq. 1); ``"tied"``, w_r = w_f, the form
            of popular re-implementations, which needs ``in_channels == out_channels`` (a bias is then added at every
            application of the kernel); ``"unshared"``, a kernel for every time step.
        norm_per_step: A norm module for every time step (True) or one for all (False).
        kernel_size: Odd size of the kernels w_f and w_r.
        act: Activation, MONAI's name or (name, arguments); ``None`` for none.
        norm: Normalisation, MONAI's name or (name, arguments); ``None`` for none.
        dropout: Probability of dropping a channel after each time step.
        bias: Give w_f a bias (Eq. 1's b; no effect when a norm follows).
        last_act: Apply activation and dropout after the last time step; a ``"shortcut"`` residual activates after its
            addition instead.

    Raises:
        ValueError: on an unknown ``recurrence``, a negative ``recurrences``, an even ``kernel_size``, or tied kernels
            of unequal channels.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        recurrences: int = 2,
        recurrence: str = "shared",
        norm_per_step: bool = True,
        kernel_size: int = 3,
        act: str | tuple[str, dict[str, Any]] | None = "RELU",
        norm: str | tuple[str, dict[str, Any]] | None = "BATCH",
        dropout: float = 0.0,
        bias: bool = False,
        last_act: bool = True,
    ) -> None:
        super().__init__()
        if recurrence not in RECURRENCES:
            raise ValueError(f"recurrence must be one of {', '.join(RECURRENCES)}, got {recurrence!r}")
        if recurrences < 0:
            raise ValueError(f"recurrences (the paper's t) must be 0 or more, got {recurrences}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the size is preserved, got {kernel_size}")
        if recurrence == "tied" and in_channels != out_channels:
            raise ValueError(
                f"recurrence='tied' applies one kernel to input and state, so in_channels ({in_channels}) must equal "
                f"out_channels ({out_channels}); project the input first (residual='input' does)"
            )

        def convolution(channels: int, with_bias: bool) -> nn.Module:
            conv: nn.Module = Convolution(
                spatial_dims, channels, out_channels, kernel_size=kernel_size, bias=with_bias, conv_only=True
            )
            return conv

        self.forward_conv = convolution(in_channels, bias)
        if recurrence == "tied":
            kernels: list[nn.Module] = [self.forward_conv] * recurrences
        elif recurrence == "shared":
            kernels = [convolution(out_channels, False)] * recurrences
        else:
            kernels = [convolution(out_channels, False) for _ in range(recurrences)]

        count = recurrences + 1 if norm_per_step else 1
        norms = [get_norm_layer(norm or "", spatial_dims, out_channels) for _ in range(count)]
        act_drop = nn.Sequential(
            get_act_layer(act or ""),
            Dropout[Dropout.DROPOUT, spatial_dims](dropout) if dropout else nn.Identity(),
        )
        acts = [act_drop] * recurrences + [act_drop if last_act else nn.Identity()]

        # A module shared by several time steps is listed once for each. Its parameters are registered only once, and
        # the forward pass stays a single loop that TorchScript can unroll.
        self.first_norm = norms[0]
        self.first_act = acts[0]
        self.recurrent_convs = nn.ModuleList(kernels)
        self.recurrent_norms = nn.ModuleList([norms[(t + 1) % count] for t in range(recurrences)])
        self.recurrent_acts = nn.ModuleList(acts[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to ``x`` of shape (B, in_channels, H, W[, D]); the spatial size is preserved."""
        feed_forward = self.forward_conv(x)
        h: torch.Tensor = self.first_act(self.first_norm(feed_forward))
        for conv, norm, act in zip(self.recurrent_convs, self.recurrent_norms, self.recurrent_acts):  # noqa: B905
            h = act(norm(feed_forward + conv(h)))
        return h


class RecurrentUnit(nn.Module):
    """The convolutional unit of one stage, Fig. 4 of the paper: RCLs in sequence, with or without a residual.

    | unit of Fig. 4                          | recurrences | residual     |
    |---|---|---|
    | (a) forward convolutional               | 0           | None         |
    | (b) recurrent convolutional             | t           | None         |
    | (c) residual convolutional              | 0           | ``"input"``  |
    | (d) recurrent residual (RRCU), Eq. (3)  | t           | ``"input"``  |

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        residual: ``"input"``: adds the input, projected by a 1x1 convolution if the channels differ, to the output of
            the RCLs, ``x + F(x)`` (Eq. 3, which needs equal channels); ``"shortcut"``: adds a 1x1 convolution and norm
            of the input to the output of the RCLs, and activates after the addition (as ResU-Net usually does);
            ``None``: no residual.
        layers: Number of consecutive RCLs; not specified in the paper, 2 in popular re-implementations.
        **layer: Arguments passed to :class:`RecurrentConvolution`.

    Raises:
        ValueError: on an unknown ``residual`` or no layer.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        residual: str | None = "input",
        layers: int = 2,
        **layer: Any,
    ) -> None:
        super().__init__()
        if residual not in RESIDUALS:
            raise ValueError(f"residual must be 'input', 'shortcut' or None, got {residual!r}")
        if layers < 1:
            raise ValueError(f"layers must be 1 or more, got {layers}")
        self.residual = residual is not None
        self.project_first = residual == "input"
        after_add = residual == "shortcut"

        self.project: nn.Module = nn.Identity()
        self.last_act: nn.Module = nn.Identity()
        if self.project_first and in_channels != out_channels:
            self.project = Convolution(spatial_dims, in_channels, out_channels, kernel_size=1, conv_only=True)
        elif after_add:
            self.project = nn.Sequential(
                Convolution(
                    spatial_dims,
                    in_channels,
                    out_channels,
                    kernel_size=1,
                    bias=layer.get("bias", False),
                    conv_only=True,
                ),
                get_norm_layer(layer.get("norm", "BATCH") or "", spatial_dims, out_channels),
            )
            self.last_act = get_act_layer(layer.get("act", "RELU") or "")

        channels = out_channels if self.project_first else in_channels
        self.layers = nn.Sequential(
            *[
                RecurrentConvolution(
                    spatial_dims,
                    channels if i == 0 else out_channels,
                    out_channels,
                    last_act=not (after_add and i == layers - 1),
                    **layer,
                )
                for i in range(layers)
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the unit to ``x`` of shape (B, in_channels, H, W[, D]); the spatial size is preserved."""
        shortcut = self.project(x)
        out: torch.Tensor = self.layers(shortcut if self.project_first else x)
        if self.residual:
            out = self.last_act(shortcut + out)
        return out


class UpConcatenate(nn.Module):
    """Up-sampling, optional attention gate, and concatenation with the encoder's feature map (paper, Sec. III).

    Max pooling rounds down, so the up-sampled map of an odd size is one row short; zeros pad it to the size of the
    skip. Replicate padding would break compiled training.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the coarse feature map.
        skip_channels: Channels of the encoder's feature map and of the up-sampled one.
        upsample: MONAI's ``UpSample`` mode: ``"deconv"`` (paper), ``"nontrainable"``, ``"pixelshuffle"``, ...
        attention: Gate the skip with the up-sampled map (Oktay et al. 2018; MONAI's ``AttentionBlock``, which always
            uses batch norm).
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, skip_channels: int, upsample: str = "deconv", attention: bool = False
    ) -> None:
        super().__init__()
        self.up = UpSample(
            spatial_dims,
            in_channels,
            skip_channels,
            scale_factor=2,
            mode=upsample,
            interp_mode="nearest",
            align_corners=None,
        )
        self.attention: nn.Module | None = None
        if attention:
            self.attention = AttentionBlock(spatial_dims, max(skip_channels // 2, 1), skip_channels, skip_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Up-sample ``x`` to the size of ``skip`` and concatenate: (B, 2 * skip_channels, H, W[, D])."""
        x = self.up(x)
        pad: list[int] = []
        for i in range(x.dim() - 1, 1, -1):
            pad += [0, skip.shape[i] - x.shape[i]]
        x = nn.functional.pad(x, pad)
        if self.attention is not None:
            skip = self.attention(x, skip)
        return torch.cat([skip, x], dim=1)


def freeze_batch_norm(network: nn.Module) -> None:
    """Freeze the running statistics of the batch norms of ``network`` while the rest trains.

    Slices with much and with little anatomy have very different batch statistics, so a network behaves differently in
    training and evaluation mode. A final training stage with frozen statistics closes this gap; scale and shift keep
    learning. ``network.train()`` does not undo it.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm):
            module.eval()
            # `network.train()` calls this on each of its modules.
            module.train = MethodType(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
