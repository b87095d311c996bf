"""A process that only segments starts without what MONAI imports for training and figures."""

from __future__ import annotations

import subprocess
import sys

import pytest

STARTED = """
import sys
from monai_r2unet.startup import import_monai_for_segmentation
import_monai_for_segmentation()
from monai_r2unet.segmenter import Segmenter
Segmenter("lung", device="cpu")
heavy = {"ignite", "matplotlib", "pandas", "sklearn", "tensorboard"} & set(sys.modules)
assert not heavy, heavy
import monai.networks.nets, ignite  # neither is out of reach for good
assert "R2UNet" in vars(monai.networks.nets)
"""

TRAINING_FIRST = """
import monai.handlers
from monai_r2unet.startup import import_monai_for_segmentation
import_monai_for_segmentation()
from monai.handlers import StatsHandler
StatsHandler()
"""


@pytest.mark.parametrize("program", [STARTED, TRAINING_FIRST])
def test_segmentation_starts_lightly_and_takes_nothing_away(program: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
