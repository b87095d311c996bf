"""A process that only segments starts without what MONAI imports for training and figures, and keeps its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STARTED = """
import sys
from monai_r2unet.inference.startup import import_monai_for_segmentation
import_monai_for_segmentation()
from monai_r2unet import Segmenter
Segmenter("lung", device="cpu")
heavy = {"ignite", "matplotlib", "pandas", "requests", "scipy.signal", "scipy.spatial", "sklearn"} & set(sys.modules)
assert not heavy, heavy
import monai.networks.nets, ignite, scipy.signal, scipy.spatial  # none is out of reach for good
assert "R2UNet" in vars(monai.networks.nets)
"""

TRAINING_FIRST = """
import monai.handlers
from monai_r2unet.inference.startup import import_monai_for_segmentation
import_monai_for_segmentation()
from monai.handlers import StatsHandler
StatsHandler()
"""

# The megabytes that stay with the process of ten feature maps of 24 MB, and of a volume of 240 MB, once they are freed.
MAPS = """
import ctypes, sys
from monai_r2unet.inference.startup import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.memset.argtypes, c.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def stays(count, megabytes):
    before = resident()
    blocks = [c.malloc(megabytes << 20) for _ in range(count)]
    for block in blocks:
        c.memset(block, 1, megabytes << 20)
    for block in reversed(blocks):
        c.free(block)
    return round(resident() - before)

print(stays(1, 240))
print(stays(10, 24))
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [STARTED, TRAINING_FIRST])
def test_segmentation_starts_lightly_and_takes_nothing_away(program: str) -> None:
    run(program)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc, whose allocator is set")
def test_feature_maps_stay_with_the_process_and_volumes_go_back() -> None:
    volume, maps = map(int, run(MAPS, "kept").split())
    assert volume < 10
    assert maps > 230
    _, maps = map(int, run(MAPS, "plain").split())
    assert maps < 100  # else there is nothing to gain any more
