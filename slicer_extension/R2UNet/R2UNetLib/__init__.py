"""What the module R2UNet is made of. Nothing here imports torch, MONAI or the package monai_r2unet."""
