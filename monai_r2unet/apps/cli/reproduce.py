"""The verb ``reproduce``: the paper's networks, trained and tested under its protocol."""

from __future__ import annotations

import argparse
import sys

from monai_r2unet.apps.cli.arguments import learning_rate, natural, positive
from monai_r2unet.apps.cli.terminal import EXIT_DONE, EXIT_SOME_FAILED
from monai_r2unet.apps.reproduce.study import BUDGET, NETWORKS, PROTOCOLS
from monai_r2unet.datasets import DATASETS
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train and test the paper's networks under its protocol"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("dataset", choices=DATASETS, help="data set, and the bundle to train")
    parser.add_argument(
        "--data",
        "--dataset-dir",
        metavar="FOLDER",
        help="data folder written by `prepare` (default: the bundle's sample)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the results; a second call resumes")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all", metavar="NAME"
    )
    parser.add_argument("--seeds", nargs="+", type=natural, default=(0, 1, 2), help="default: 0 1 2", metavar="N")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="paper", help="recipe of the paper (default) or of the bundle"
    )
    parser.add_argument("--recurrences", type=positive, default=2, metavar="T", help="the paper's t, default 2")
    parser.add_argument("--name", help="name of the data in the tables, such as lctsc (default: DATASET)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0, ...")
    for budget in BUDGET:
        number = learning_rate if budget == "lr" else positive
        option = "--" + budget.replace("_", "-")
        parser.add_argument(option, type=number, metavar="N", help="value to use instead of the protocol's")


def run(options: argparse.Namespace) -> int:
    """Train and test the paper's networks, and print the paper's table with ours beside it."""
    with leaving_on_interrupt():
        from monai_r2unet.apps.cli.processes import failures_everywhere
        from monai_r2unet.apps.reproduce.records import read_results
        from monai_r2unet.apps.reproduce.session import carry_out
        from monai_r2unet.apps.reproduce.study import study_of
        from monai_r2unet.apps.reproduce.tables import table_of
        from monai_r2unet.inference.devices import process_number

    study = study_of(options)
    failed = failures_everywhere(carry_out(study, lambda name: print(f"{name}: done", file=sys.stderr)))
    if process_number("RANK", 0) == 0:
        print(table_of(study.dataset, read_results(study.out / "results")))
    return EXIT_SOME_FAILED if failed else EXIT_DONE
