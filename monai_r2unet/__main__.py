"""``python -m monai_r2unet``."""

import sys

from monai_r2unet.cli import main

if __name__ == "__main__":
    sys.exit(main())
