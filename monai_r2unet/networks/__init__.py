"""The paper's networks, also under ``monai.networks.nets`` once this package is imported."""

from monai_r2unet.networks.nets import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet
from monai_r2unet.networks.registration import register

__all__ = ["AttentionR2UNet", "ForwardUNet", "R2UNet", "RUNet", "ResUNet"]

register()
