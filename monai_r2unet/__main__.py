"""``python -m monai_r2unet`` and ``monai-r2unet``."""

from __future__ import annotations

from monai_r2unet.inference.startup import leaving_on_interrupt

with leaving_on_interrupt():  # Ctrl+C during imports has a long traceback, or is swallowed
    from monai_r2unet.apps.cli.main import run

__all__ = ["run"]

if __name__ == "__main__":
    run()
