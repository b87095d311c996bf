"""R2U-Net for MONAI and 3D Slicer: networks, bundles and the engine that runs them.

Importing the package registers its networks with MONAI, so that a bundle may name them ``R2UNet``,
``monai.networks.nets.R2UNet`` or ``monai_r2unet.networks.nets.R2UNet``.
"""

from monai_r2unet.errors import InputError
from monai_r2unet.networks import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet
from monai_r2unet.networks.registration import register

__version__ = "0.1.0"
__all__ = ["AttentionR2UNet", "ForwardUNet", "InputError", "R2UNet", "RUNet", "ResUNet", "register"]

register()
