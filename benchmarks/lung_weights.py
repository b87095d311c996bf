"""Train the lung weights from scratch with one command: `make lung-weights`.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.lung_weights lung_weights

In the folder `lung_weights`:

1. `data`: the images, each source with its share (`benchmarks.lung_data`);
2. `coarse`: the recipe `bundles/lung/configs/weights_recipe.json` from random weights, at half the resolution, where a
   slice takes a quarter of the time;
3. `fine`: the recipe as it stands, from the weights of the first stage;
4. `model.pt`: these weights in half precision.

Steps that are complete are not repeated, and an interrupted training resumes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.average_weights import rounded
from benchmarks.records import REPOSITORY
from monai_r2unet.files import sha256, written_whole

CONFIGS = ["bundles/lung/train.json", "bundles/lung/configs/weights_recipe.json"]
COARSE = {
    "slice_size": 128,
    "batch_size": 8,
    "epochs": 48,
    "slices_per_epoch": 640,
    "lr": 0.002,
    "freeze_norm": False,
    "init_weights": None,
}


def train(data: Path, output: Path, options: Mapping[str, object]) -> Path:
    """Train, or resume a training; returns its weights."""
    weights = output / "model.pt"
    if not (output / "results.json").is_file():  # written last
        chosen = {"dataset_dir": data, "output_dir": output, "resume": "auto", **options}
        command = ["monai.bundle", "run", "training", "--config_file", str(CONFIGS)]
        switches = [text for name, value in chosen.items() for text in (f"--{name}", str(value))]
        subprocess.run([sys.executable, "-m", *command, *switches], check=True, cwd=REPOSITORY)
    return weights


def main() -> None:
    """Carry out the steps that are not complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    data = folder / "data"
    if not (data / "datalist.json").is_file():  # written last
        subprocess.run([sys.executable, "-m", "benchmarks.lung_data", str(data)], check=True, cwd=REPOSITORY)
    coarse = train(data, folder / "coarse", COARSE)
    fine = train(data, folder / "fine", {"init_weights": coarse})
    with written_whole(folder / "model.pt", ".tmp") as temporary:
        torch.save(rounded(torch.load(fine, map_location="cpu", weights_only=True)), temporary)
    print(f"{folder / 'model.pt'}: SHA-256 {sha256(folder / 'model.pt')}")


if __name__ == "__main__":
    main()
