"""The verb ``new``: a bundle for your own task, planned from a folder of images and masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from monai_r2unet.apps.cli.terminal import EXIT_DONE, ProgressBar
from monai_r2unet.errors import InputError
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "run"]

HELP = "plan a bundle for your own images and masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="folder of the bundle to write")
    parser.add_argument(
        "source", help="folder with images/ and masks/, a dataset.json (Decathlon, nnU-Net) or a datalist.json"
    )
    parser.add_argument("--labels", metavar="NAMES", help='labels with the values 1, 2, ...: "liver,kidney"')
    parser.add_argument("--modality", choices=("ct", "mr", "grey", "rgb"), help="kind of images; guessed if not given")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split by patient, if the data set has none")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")


def run(options: argparse.Namespace) -> int:
    """Check the data, plan the training, and write the bundle."""
    with leaving_on_interrupt():
        from monai_r2unet.apps.planning.plan import make_plan
        from monai_r2unet.apps.planning.sources import find_cases
        from monai_r2unet.apps.planning.survey import survey
        from monai_r2unet.apps.planning.writer import check_destination, write_bundle

    dest = Path(options.name)
    check_destination(dest, overwrite=options.overwrite)
    labels = _names(options.labels)
    source = find_cases(Path(options.source))
    with ProgressBar("Checking") as bar:
        found = survey(source, labels, options.modality, bar.update)
    plan = make_plan(found, options.seed)
    write_bundle(plan, dest, overwrite=options.overwrite)
    print(plan.table())
    print(f"\n{dest}\ttrain it: python -m monai.bundle run training --config_file {dest / 'configs' / 'train.json'}")
    return EXIT_DONE


def _names(text: str | None) -> list[str]:
    """The names in ``--labels``; none if it is not given."""
    if text is None:
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len({name.lower() for name in names}) < len(names) or "background" in map(str.lower, names):
        raise InputError(f"--labels is {text!r}, expected different names without the background: liver,kidney")
    return names
