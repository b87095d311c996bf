"""Make the networks available to MONAI's bundle parser in MONAI's own module."""

from __future__ import annotations

import monai.networks.nets

from monai_r2unet.networks import nets

__all__ = ["register"]


def register() -> None:
    """Offer the networks as ``monai.networks.nets.<name>`` too. Calling it again has no effect.

    Raises:
        RuntimeError: if MONAI itself has a network with one of these names.
    """
    for name in nets.__all__:
        network = getattr(nets, name)
        if getattr(monai.networks.nets, name, network) is not network:
            raise RuntimeError(f"monai.networks.nets.{name} exists already and is not the one of monai_r2unet")
        setattr(monai.networks.nets, name, network)
