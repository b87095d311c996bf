"""The verb ``prepare``: a data set in the form that the bundles read."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from monai_r2unet.apps.cli.arguments import positive
from monai_r2unet.apps.cli.terminal import EXIT_DONE, ProgressBar
from monai_r2unet.datasets import DATASETS

__all__ = ["HELP", "add_arguments", "run"]

HELP = "bring a public data set, or your own, into the form the bundles read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="BUNDLE")
    for name, what in DATASETS.items():
        dataset = datasets.add_parser(name, help=what)
        dataset.add_argument(
            "source", help="folder of the data as downloaded" + (", or its archive" * (name != "lung"))
        )
        dataset.add_argument("dest", help="folder to write to; an existing one is added to")
        if name == "lung":
            dataset.add_argument("--layout", help="luna16, lctsc, kaggle or pairs; found out where not given")
            dataset.add_argument("--split", metavar="CSV", type=Path, help="table with the columns case and split")
            dataset.add_argument("--slices-per-case", type=positive, help="keep that many axial slices of each volume")
            dataset.add_argument("--rescale-intercept", type=float, help="added to the stored values to give HU")
            dataset.add_argument("--seed", type=int, default=0, help="of the split, where none is given")
        if name == "skin":
            dataset.add_argument("--split", metavar="CSV", help="table with the columns case and split, or: official")


def run(options: argparse.Namespace) -> int:
    """Bring a data set into the form the bundles read."""
    from monai_r2unet.datasets.datalist import SPLITS

    prepare = import_module(f"monai_r2unet.datasets.{options.dataset}").prepare
    # What is left are the options that only this data set has, under the names of the function's arguments.
    own = {key: value for key, value in vars(options).items() if key not in ("run", "dataset", "source", "dest")}
    with ProgressBar("Preparing") as bar:
        datalist = prepare(Path(options.source), Path(options.dest), **own, progress=bar.update)
    counts = {split: len(datalist.get(split, [])) for split in SPLITS}
    print(f"{options.dest}\t" + "\t".join(f"{split} {count}" for split, count in counts.items()))
    return EXIT_DONE
