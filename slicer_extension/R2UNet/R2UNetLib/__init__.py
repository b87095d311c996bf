"""The parts of the module R2UNet. Nothing here imports torch, MONAI or the package monai_r2unet."""
