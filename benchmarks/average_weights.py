"""Average the parameters and running statistics of several trainings of a bundle's R2U-Net, optionally rounded.

    python -m benchmarks.average_weights second/model.pt third/model.pt models/model.pt
    python -m benchmarks.average_weights --half third/model.pt models/model.pt

Averaging a network trained on broad data with one then trained on narrow data retains more of the former (Wortsman et
al. 2022, arXiv:2203.05482). A single file is its own average.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch

from monai_r2unet import R2UNet


def main() -> None:
    """Read state dicts and write their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("output")
    parser.add_argument("--half", action="store_true", help="write half precision, at half the size")
    options = parser.parse_args()
    trained = [torch.load(path, map_location="cpu", weights_only=True) for path in options.weights]
    mean = {
        key: sum(each[key] for each in trained) / len(trained) if value.is_floating_point() else value
        for key, value in trained[-1].items()
    }
    in_channels = next(value.shape[1] for value in mean.values() if value.ndim == 4)
    network = R2UNet(in_channels=in_channels)  # the shared kernels are one tensor again
    network.load_state_dict(mean)
    tensors = network.state_dict()
    torch.save(rounded(tensors) if options.half else tensors, options.output)


def rounded(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict in half precision, at half the size; names that share a tensor still share it."""
    halves = {value.data_ptr(): value.half() for value in tensors.values() if value.is_floating_point()}
    return {name: halves.get(value.data_ptr(), value) for name, value in tensors.items()}


if __name__ == "__main__":
    main()
