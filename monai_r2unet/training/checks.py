"""Whether a network and a loss fit the data, tried on one example before training changes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import IterableDataset

from monai_r2unet.errors import InputError, first_line

__all__ = ["check_example", "example_of"]


def example_of(dataset: Any) -> Mapping[str, Any]:
    """The first item of a data set, or the first patch of a `PatchDataset`; the random state is not changed."""
    if not isinstance(dataset, IterableDataset):
        item: Mapping[str, Any] = dataset[0]
        return item
    with torch.random.fork_rng(devices=[]):
        batch = next(iter(dataset))
    return {key: batch[key][0] for key in ("image", "label")}


def check_example(
    example: Mapping[str, Any], network: nn.Module, loss: Callable[..., Any], device: torch.device
) -> None:
    """Check that the network accepts an image, and that the loss accepts the network's output and the mask.

    Draws no random numbers and leaves the network's statistics alone.

    Args:
        example: An item of the validation data: ``"image"`` (C, ...) and ``"label"`` (1, ...).
        network: The network in training, perhaps wrapped for several processes.
        loss: The training's loss.
        device: Device of the network.

    Raises:
        InputError: either fails, as with a wrong number of channels.
    """
    network = getattr(network, "module", network)
    image, label = (torch.as_tensor(example[key])[None].to(device) for key in ("image", "label"))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            loss(network(image), label)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        shapes = [" x ".join(map(str, tensor.shape[1:])) for tensor in (image, label)]
        raise InputError(
            f"{type(network).__name__} and {type(loss).__name__} do not fit images of {shapes[0]} and masks of "
            f"{shapes[1]} ({type(error).__name__}: {first_line(error)}): check in_channels and out_channels of "
            "network_def, and the loss"
        ) from error
    finally:
        network.train(training)
