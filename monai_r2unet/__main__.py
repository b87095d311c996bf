"""``python -m monai_r2unet``."""

from monai_r2unet.apps.cli.main import run

if __name__ == "__main__":
    run()
