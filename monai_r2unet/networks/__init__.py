"""The paper's networks, also under ``monai.networks.nets`` once :mod:`monai_r2unet` is imported."""

from monai_r2unet.networks.nets import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet

__all__ = ["AttentionR2UNet", "ForwardUNet", "R2UNet", "RUNet", "ResUNet"]
