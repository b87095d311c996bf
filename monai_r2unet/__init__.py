"""R2U-Net for MONAI and 3D Slicer: networks, bundles and the engine that runs them.

Importing the package registers its networks with MONAI, so that a bundle may name them ``R2UNet``,
``monai.networks.nets.R2UNet`` or ``monai_r2unet.networks.nets.R2UNet``. That waits until someone imports MONAI, which
takes seconds, so that what does without it, such as the worker's greeting or a usage error, comes at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_r2unet.errors import InputError

if TYPE_CHECKING:
    from monai_r2unet.networks import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet
    from monai_r2unet.networks.registration import register

__version__ = "0.1.0"
__all__ = ["AttentionR2UNet", "ForwardUNet", "InputError", "R2UNet", "RUNet", "ResUNet", "register"]


def __getattr__(name: str) -> Any:
    """The networks and `register`, imported when they are first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from monai_r2unet.networks import nets, registration

    return getattr(registration if name == "register" else nets, name)


class _WithMonai:
    """Finds nothing itself, but imports our networks, which registers them, as soon as MONAI has been imported."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> Any:
        if name != "monai":
            return None
        sys.meta_path.remove(cls)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                import_module("monai_r2unet.networks")

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # on this one loader
        return spec


if "monai" in sys.modules:
    import_module("monai_r2unet.networks")
else:
    sys.meta_path.insert(0, _WithMonai)
