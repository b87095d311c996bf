"""The networks that ours is compared with, at the same widths if these can be chosen.

Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from monai.networks.nets import AttentionUnet, BasicUNet
from torch import nn

from monai_r2unet.networks import R2UNet
from monai_r2unet.networks.blocks import RecurrentConvolution

CHANNELS = (16, 32, 64, 128)


class NaiveRecurrentConvolution(RecurrentConvolution):
    """Eq. (1) unrolled literally: the feed-forward convolution is computed again in every time step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.first_act(self.first_norm(self.forward_conv(x)))
        for conv, norm, act in zip(self.recurrent_convs, self.recurrent_norms, self.recurrent_acts, strict=True):
            h = act(norm(self.forward_conv(x) + conv(h)))
        return h


def naive_r2unet(channels: Sequence[int] = CHANNELS, recurrences: int = 2) -> nn.Module:
    """R2U-Net that computes the same function from the same weights as ours, with Eq. (1) unrolled naively."""
    network = R2UNet(channels=channels, recurrences=recurrences)
    for module in network.modules():
        if isinstance(module, RecurrentConvolution):
            module.__class__ = NaiveRecurrentConvolution
    return network


class OneKernelRecurrence(nn.Module):
    """The popular recurrent layer: one convolution, norm and activation `c` for all, `c(x)`, then `c(x + h)`."""

    def __init__(self, channels: int, recurrences: int) -> None:
        super().__init__()
        self.recurrences = recurrences
        self.step = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.step(x)
        for _ in range(self.recurrences):
            h = self.step(x + h)
        return h


class OneKernelUnit(nn.Module):
    """1x1 projection, two one-kernel layers, and the projection added."""

    def __init__(self, in_channels: int, out_channels: int, recurrences: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.layers = nn.Sequential(*(OneKernelRecurrence(out_channels, recurrences) for _ in range(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(x)
        out: torch.Tensor = x + self.layers(x)
        return out


class OneKernelR2UNet(nn.Module):
    """R2U-Net in the form of most re-implementations: tied kernels, one norm, nearest up-sampling and convolution."""

    def __init__(self, channels: Sequence[int] = CHANNELS, recurrences: int = 2) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.encoders = nn.ModuleList(OneKernelUnit(a, b, recurrences) for a, b in pairwise((1, *channels)))
        upwards = list(pairwise(channels[::-1]))
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2), nn.Conv2d(coarse, fine, 3, padding=1), nn.BatchNorm2d(fine), nn.ReLU()
            )
            for coarse, fine in upwards
        )
        self.decoders = nn.ModuleList(OneKernelUnit(2 * fine, fine, recurrences) for _, fine in upwards)
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 1, H, W) to logits; sides divisible by 2 ** (stages - 1)."""
        skips: list[torch.Tensor] = []
        for i, encoder in enumerate(self.encoders):
            x = encoder(self.pool(x) if i else x)
            skips.append(x)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def basic_unet() -> nn.Module:
    """MONAI's BasicUNet from 16 to 128 feature maps; it always has five stages."""
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(16, *CHANNELS, 16))


def attention_unet() -> nn.Module:
    """MONAI's AttentionUnet."""
    return AttentionUnet(spatial_dims=2, in_channels=1, out_channels=1, channels=CHANNELS, strides=(2, 2, 2))


def lungmask_r231(python: Path) -> nn.Module:
    """The network of lungmask's model R231, from an installed lungmask's source file, run in this process's torch.

    Args:
        python: Interpreter of an environment with lungmask, see `benchmarks.end_to_end`.
    """
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('lungmask').submodule_search_locations[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    spec = importlib.util.spec_from_file_location("resunet", Path(found.stdout.strip()) / "resunet.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"no lungmask in the environment of {python}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # As lungmask.mask.get_model builds it.
    network: nn.Module = module.UNet(
        n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False
    )
    return network
