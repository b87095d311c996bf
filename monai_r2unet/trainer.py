"""``python -m monai_r2unet.trainer``: the process in which 3D Slicer trains."""

from monai_r2unet.apps.trainer.program import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
