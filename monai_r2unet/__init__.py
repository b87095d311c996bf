"""R2U-Net for MONAI and 3D Slicer: networks, bundles and the engine that runs them.

Importing the package after MONAI registers its networks with MONAI, so that a bundle with ``"$import monai_r2unet"``
may name them ``R2UNet``, ``monai.networks.nets.R2UNet`` or ``monai_r2unet.networks.nets.R2UNet``. MONAI takes seconds
to import; until then the package stays light: networks and `Segmenter` are imported on first use, and
``import monai_r2unet.networks`` registers the networks at any time.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_r2unet.errors import InputError

if TYPE_CHECKING:
    from monai_r2unet.inference.segmentation import Segmentation
    from monai_r2unet.inference.segmenter import Segmenter
    from monai_r2unet.networks.nets import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet
    from monai_r2unet.networks.registration import register

__version__ = "0.1.0"
__all__ = [
    "AttentionR2UNet",
    "ForwardUNet",
    "InputError",
    "R2UNet",
    "RUNet",
    "ResUNet",
    "Segmentation",
    "Segmenter",
    "register",
]

_HOMES = {
    **dict.fromkeys(("AttentionR2UNet", "ForwardUNet", "R2UNet", "RUNet", "ResUNet"), "monai_r2unet.networks.nets"),
    "Segmentation": "monai_r2unet.inference.segmentation",
    "Segmenter": "monai_r2unet.inference.segmenter",
    "register": "monai_r2unet.networks.registration",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _name_user() -> None:
    """Give a user without a name, as in a container, one: MONAI asks for it while it is imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        with contextlib.suppress(AttributeError):  # Windows knows no number
            os.environ["USER"] = f"uid-{os.getuid()}"


_name_user()
if "monai" in sys.modules:  # a bundle's configuration is being read, which may name a network R2UNet
    import_module("monai_r2unet.networks")
