"""Small data sets with two observers, one of them to be tested by leaving one out, and made-up results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from tests.helpers.photograph_examples import write_dataset

SMALL = ["--patch_size", "16", "--patches", "8", "--batch_size", "4", "--device", "cpu"]


def with_second_observer(folder: Path) -> Path:
    """The photographs of `write_dataset`; the second observer draws every vessel a little wider."""
    write_dataset(folder)
    datalist = json.loads((folder / "datalist.json").read_text())
    (folder / "labels_2").mkdir()
    for entry in datalist["test"]:
        name = Path(entry["label"]).name
        Image.open(folder / entry["label"]).filter(ImageFilter.MaxFilter(3)).save(folder / "labels_2" / name)
        entry["label_2"] = f"labels_2/{name}"
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def leaving_one_out(folder: Path) -> Path:
    """The same, with a data folder for either of the two test photographs."""
    with_second_observer(folder)
    datalist = json.loads((folder / "datalist.json").read_text())
    for entry in datalist["test"]:
        fold = folder / "leave_out" / Path(entry["image"]).stem
        for kind in ("images", "labels", "labels_2", "fov"):
            shutil.copytree(folder / kind, fold / kind)
        (fold / "datalist.json").write_text(json.dumps({**datalist, "test": [entry]}))
    return folder


def result(network: str, seed: int | None, f1: float, auc: float | None, **changes: Any) -> dict[str, Any]:
    """What the file of a result holds, as far as tables need it."""
    pooled = {
        "f1": f1,
        "sensitivity": 0.5,
        "specificity": 0.75,
        "accuracy": 0.625,
        "balanced_accuracy": 0.625,
        "auc": auc,
        "jaccard": 0.4,
    }
    summary = {"pooled": pooled, "per_image": {"mean": {"dice": f1 - 0.01, "jaccard": 0.3}}}
    observer = network == "second observer"
    return {
        "dataset": "drive",
        "name": "drive",
        "protocol": None if observer else "paper",
        "network": network,
        "recurrences": None if observer else 2,
        "seed": seed,
        "fold": None,
        "folds": 0,
        "schedule": {} if observer else {"epochs": 2, "lr": 0.0002},
        "data": {"training": 18, "validation": 2, "test": 20, "datalist_sha256": "0"},
        "options": {} if observer else {"epochs": 2},
        "parameters": 1234567,
        "training": {"seconds": 60.0},
        "test": {"seconds_per_image": 0.125, "regions": {"inside_fov": summary, "whole_image": summary}},
        "device": "a processor, 1 thread",
        "versions": {"torch": "2.13.0", "monai": "1.6.1"},
        **changes,
    }
