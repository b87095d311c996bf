"""``python -m monai_r2unet.worker``: the process that 3D Slicer and the viewer talk to."""

from monai_r2unet.apps.worker.server import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
