"""Run lungmask's command line with random weights; started by `end_to_end.py` with the Python that has lungmask.

    python lungmask_process.py prepare CT MASK FOLDER
    python lungmask_process.py run CT OUTPUT FOLDER

Its trained weights must be downloaded, and random ones give a mask of noise, on which its post-processing would take
far longer than on lungs. So its network runs to completion, and its output is then replaced by a real lung mask, split
into left and right as the real network would do. `prepare` makes this mask on the network's own grid, and a file of
random weights for lungmask to load; neither is timed. Everything else is lungmask's own code: `lungmask CT OUTPUT
--cpu`, with a batch of one slice, the fastest on a CPU.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lungmask.__main__ as command_line
import numpy as np
import SimpleITK as sitk
import torch
from lungmask import mask as lungmask_mask
from lungmask import utils
from lungmask.resunet import UNet
from scipy import ndimage

BACKGROUND, RIGHT, LEFT = range(3)


def prepare(ct: str, mask: str, folder: Path) -> None:
    """Write weights.pth and masks.npy, (slices, 256, 256)."""
    torch.manual_seed(0)
    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    torch.save(network.state_dict(), folder / "weights.pth")

    image = sitk.DICOMOrient(utils.load_input_image(ct, disable_tqdm=True), "LPS")
    lungs = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(mask), "LPS")) > 0
    _, boxes = utils.preprocess(sitk.GetArrayFromImage(image), resolution=[256, 256])
    middle = int(np.median(np.nonzero(lungs)[2])) if lungs.any() else lungs.shape[2] // 2
    labels = np.where(np.arange(lungs.shape[2]) < middle, RIGHT, LEFT) * lungs
    cropped = [one[box[0] : box[2], box[1] : box[3]] for one, box in zip(labels, boxes, strict=True)]
    fitted = [ndimage.zoom(one, np.divide(256, one.shape), order=0) for one in cropped]
    np.save(folder / "masks.npy", np.asarray(fitted, dtype=np.uint8))


class Injected(torch.nn.Module):
    """Runs the network, then returns the prepared masks, slice by slice."""

    def __init__(self, network: torch.nn.Module, masks: np.ndarray) -> None:
        super().__init__()
        self.network = network
        self.masks = torch.from_numpy(masks)
        self.seconds = 0.0
        self.done = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        scores = self.network(images)
        self.seconds += time.perf_counter() - started
        labels = self.masks[self.done : self.done + len(images)].long()
        self.done += len(images)
        return torch.nn.functional.one_hot(labels, scores.shape[1]).movedim(-1, 1).float()


def run(ct: str, output: str, folder: Path) -> None:
    """Run lungmask's `main` and write stages.json with the seconds of each step."""
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] = time.perf_counter() - started

        return call

    networks: list[Injected] = []
    get_model = lungmask_mask.get_model

    def get_injected(*args: Any, **kwargs: Any) -> torch.nn.Module:
        networks.append(Injected(get_model(*args, **kwargs), np.load(folder / "masks.npy")))
        return networks[0].eval()

    lungmask_mask.get_model = timed("load", get_injected)
    utils.load_input_image = timed("read", utils.load_input_image)
    utils.preprocess = timed("preprocess", utils.preprocess)
    utils.postprocessing = timed("postprocess", utils.postprocessing)
    sys.argv = ["lungmask", ct, output, "--cpu", "--noprogress", "--modelpath", str(folder / "weights.pth")]
    command_line.main()
    seconds["network"] = networks[0].seconds
    (folder / "stages.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    verb, first, second, third = sys.argv[1:]
    {"prepare": prepare, "run": run}[verb](first, second, Path(third))
