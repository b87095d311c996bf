"""Average the parameters and running statistics of two trainings of a bundle's R2U-Net.

    python benchmarks/average_weights.py second/model.pt third/model.pt models/model.pt

A network that was trained on broad data and then on narrow data keeps more of the former when the two are averaged
(Wortsman et al. 2022, arXiv:2203.05482).
"""

from __future__ import annotations

import argparse

import torch

from monai_r2unet import R2UNet


def main() -> None:
    """Read two state dicts and write their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("output")
    options = parser.parse_args()
    one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in (options.first, options.second))
    mean = {key: (one[key] + other[key]) / 2 if one[key].is_floating_point() else other[key] for key in other}
    in_channels = next(value.shape[1] for value in mean.values() if value.ndim == 4)
    network = R2UNet(in_channels=in_channels)  # the shared kernels are one tensor again
    network.load_state_dict(mean)
    torch.save(network.state_dict(), options.output)


if __name__ == "__main__":
    main()
