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

    Deviations from the paper: it says nothing of normalisation; here a norm follows every time step, one norm module
    per step by default, because the statistics of h(0) and h(t) differ and one shared module leaves a gap between
    training and evaluation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        recurrences: the paper's t, the number of recurrent convolutions after the feed-forward one.
        recurrence: ``"shared"``, one recurrent kernel w_r for all time steps (Eq. 1); ``"tied"``, w_r = w_f, the form
            of popular re-implementations, which needs ``in_channels == out_channels`` (a bias then enters with every
            application of the kernel); ``"unshared"``, a kernel for every time step.
        norm_per_step: one norm module for every time step, or one for all.
        kernel_size: of w_f and w_r, odd.
        act: activation, MONAI's name or (name, arguments); ``None`` for none.
        norm: normalisation, MONAI's name or (name, arguments); ``None`` for none.
        dropout: probability of dropping a channel after each time step.
        bias: whether w_f has a bias (Eq. 1's b; without effect when a norm follows).
        last_act: whether the last time step is activated and dropped out; a ``"shortcut"`` residual activates after its
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
            raise ValueError(f"kernel_size must be odd, so that the size stays, got {kernel_size}")
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

        # A module that serves several time steps is listed several times. Its parameters are registered once, and the
        # forward pass stays one loop that TorchScript can unroll.
        self.first_norm = norms[0]
        self.first_act = acts[0]
        self.recurrent_convs = nn.ModuleList(kernels)
        self.recurrent_norms = nn.ModuleList([norms[(t + 1) % count] for t in range(recurrences)])
        self.recurrent_acts = nn.ModuleList(acts[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to ``x`` of shape (B, in_channels, H, W[, D]); the spatial size stays."""
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
        in_channels: channels of the input.
        out_channels: channels of the output.
        residual: ``"input"``: the input, projected by a 1x1 convolution where the channels differ, is added to what the
            RCLs make of it, ``x + F(x)`` (Eq. 3, which needs equal channels); ``"shortcut"``: a 1x1 convolution and
            norm of the input is added to the RCLs of the input itself and the activation follows the addition (the
            usual ResU-Net); ``None``: no residual.
        layers: RCLs in sequence; the paper's figure does not fix the number, its popular re-implementations use 2.
        **layer: arguments of :class:`RecurrentConvolution`.

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
        """Apply the unit to ``x`` of shape (B, in_channels, H, W[, D]); the spatial size stays."""
        shortcut = self.project(x)
        out: torch.Tensor = self.layers(shortcut if self.project_first else x)
        if self.residual:
            out = self.last_act(shortcut + out)
        return out


class UpConcatenate(nn.Module):
    """Up-sampling, attention gate where wanted, and concatenation with the encoder's map (paper, Sec. III).

    Max pooling rounds down, so the up-sampled map of an odd size is one row short: it is padded with zeros to the
    skip's size. Zeros, not copies: replicate padding breaks compiled training.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the coarse map.
        skip_channels: channels of the encoder's map, and of the up-sampled one.
        upsample: MONAI's ``UpSample`` mode: ``"deconv"`` (paper), ``"nontrainable"``, ``"pixelshuffle"``, ...
        attention: gate the skip with the up-sampled map (Oktay et al. 2018, MONAI's ``AttentionBlock``, whose norm is
            always batch norm).
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
        """Bring ``x`` to the size of ``skip`` and concatenate: (B, 2 * skip_channels, H, W[, D])."""
        x = self.up(x)
        pad: list[int] = []
        for i in range(x.dim() - 1, 1, -1):
            pad += [0, skip.shape[i] - x.shape[i]]
        x = nn.functional.pad(x, pad)
        if self.attention is not None:
            skip = self.attention(x, skip)
        return torch.cat([skip, x], dim=1)


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep the batch norms of ``network`` on their running statistics while the rest trains.

    Slices with much and with little anatomy give very different batch statistics, so that a network in training mode
    is another one than it is in evaluation. A last stage of training with frozen statistics closes that gap; scale and
    shift go on learning. ``network.train()`` does not undo it.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            # What `network.train()` calls on each of its modules.
            module.train = MethodType(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
