"""The verb ``prepare``: convert a data set for training."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from monai_r2unet.apps.cli.arguments import positive
from monai_r2unet.apps.cli.terminal import EXIT_DONE, ProgressBar
from monai_r2unet.datasets import DATASETS
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "run"]

HELP = "convert a public data set, or your own, for training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="BUNDLE")
    for name, what in DATASETS.items():
        dataset = datasets.add_parser(name, help=what)
        dataset.add_argument("source", help="folder with the downloaded data" + (", or its archive" * (name != "lung")))
        dataset.add_argument("dest", help="folder to write to, or to add to")
        if name == "lung":
            dataset.add_argument("--layout", help="luna16, lctsc, kaggle or pairs (default: detected)")
            dataset.add_argument("--split", metavar="CSV", type=Path, help="table with the columns case and split")
            dataset.add_argument(
                "--slices-per-case", type=positive, help="number of axial slices to keep of each volume"
            )
            dataset.add_argument("--rescale-intercept", type=float, help="offset from the stored values to HU")
            dataset.add_argument("--sides", action="store_true", help="label the right lung 1 and the left lung 2")
            dataset.add_argument("--seed", type=int, default=0, help="seed of the split, if none is given")
        if name == "skin":
            dataset.add_argument("--split", metavar="CSV", help='table with the columns case and split, or "official"')


def run(options: argparse.Namespace) -> int:
    """Convert a data set for training."""
    with leaving_on_interrupt():
        from monai_r2unet.datasets.datalist import SPLITS

        prepare = import_module(f"monai_r2unet.datasets.{options.dataset}").prepare
    # The remaining options are those of this data set only, named like the function's arguments.
    own = {key: value for key, value in vars(options).items() if key not in ("run", "dataset", "source", "dest")}
    with ProgressBar("Preparing") as bar:
        datalist = prepare(Path(options.source), Path(options.dest), **own, progress=bar.update)
    counts = {split: len(datalist.get(split, [])) for split in SPLITS}
    print(f"{options.dest}\t" + "\t".join(f"{split} {count}" for split, count in counts.items()))
    return EXIT_DONE
