"""The command line: ``monai-r2unet`` and ``python -m monai_r2unet``.

Standard output carries results only; progress and messages go to standard error. Exit codes: 0 done, 2 wrong usage or
input, 3 some cases of a folder failed, 4 nothing was found in the image (the empty mask is written), 1 anything else.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_r2unet import verbs
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, known_error
from monai_r2unet.segment import segment
from monai_r2unet.terminal import EXIT_FAILED

__all__ = ["main"]

_DATASETS = {
    "lung": "chest CT: LUNA16, LCTSC, Kaggle, or your own",
    "drive": "DRIVE, retinal vessels",
    "stare": "STARE, retinal vessels",
    "chase_db1": "CHASE_DB1, retinal vessels",
    "skin": "ISIC 2017, skin lesions",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    # typeshed asks for each parameter by name, of which ours takes the last four as one.
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        return verb(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        known = known_error(error)
        if isinstance(known, InputError):
            print(f"error: {known}", file=sys.stderr)
            return EXIT_BAD_INPUT
        if isinstance(error, OSError | MemoryError):  # not the input's fault, and not ours
            print(f"error: {str(error) or 'not enough memory: close other programs'}", file=sys.stderr)
            return EXIT_FAILED
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monai-r2unet", description="R2U-Net segmentation of medical images. For research use, not for diagnosis."
    )
    subparsers = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    verb = subparsers.add_parser("segment", help="segment an image or a folder of cases")
    verb.add_argument("input", help="image file, folder with one DICOM series, or folder of such cases")
    verb.add_argument("output", help="mask: .nii.gz, .nii, .nrrd, .mha, .seg.nrrd or .dcm; a folder for cases")
    verb.add_argument("--bundle", required=True, help="name (see `monai-r2unet list`) or folder of the bundle")
    verb.add_argument("--trust-bundle", action="store_true", help="allow code in a bundle that is not shipped")
    verb.add_argument("--weights", help="weights of your own training instead of the bundle's")
    verb.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0, ...")
    verb.add_argument("--engine", default="torch", help="torch (default), or openvino: faster for many slices on a CPU")
    verb.add_argument("--batch-size", type=_positive, help="slices at a time; changes speed and memory only")
    verb.add_argument("--series", help="series UID, where the folder holds several DICOM series")
    verb.add_argument("--ending", help="of the masks of a folder of cases: .nii.gz (default), .seg.nrrd, .dcm, ...")
    verb.add_argument(
        "--probabilities", metavar="FILE", help="also write the foreground probabilities; folder for cases"
    )
    verb.add_argument("--report", metavar="FILE.json", help="also write what was run, with what, and what came out")
    verb.add_argument("--allow-nonfinite", type=int, default=0, metavar="N", help="accept N NaN or infinite voxels")
    verb.add_argument("--overwrite", action="store_true", help="replace existing output")
    verb.set_defaults(verb=segment)

    verb = subparsers.add_parser("evaluate", help="measure a mask against its reference")
    verb.add_argument("prediction", help="mask")
    verb.add_argument("reference", help="reference mask on the same grid")
    verb.add_argument("--json", metavar="FILE", help="also write the measures to a file")
    verb.add_argument("--overwrite", action="store_true", help="replace existing output")
    verb.set_defaults(verb=verbs.evaluate)

    verb = subparsers.add_parser("prepare", help="bring a public data set, or your own, into the form the bundles read")
    datasets = verb.add_subparsers(dest="dataset", required=True, metavar="BUNDLE")
    for name, what in _DATASETS.items():
        dataset = datasets.add_parser(name, help=what)
        dataset.add_argument(
            "source", help="folder of the data as downloaded" + (", or its archive" * (name != "lung"))
        )
        dataset.add_argument("dest", help="folder to write to; an existing one is added to")
        if name == "lung":
            dataset.add_argument("--layout", help="luna16, lctsc, kaggle or pairs; found out where not given")
            dataset.add_argument("--split", metavar="CSV", type=Path, help="table with the columns case and split")
            dataset.add_argument("--slices-per-case", type=_positive, help="keep that many axial slices of each volume")
            dataset.add_argument("--rescale-intercept", type=float, help="added to the stored values to give HU")
            dataset.add_argument("--seed", type=int, default=0, help="of the split, where none is given")
        if name == "skin":
            dataset.add_argument("--split", metavar="CSV", help="table with the columns case and split, or: official")
    verb.set_defaults(verb=verbs.prepare)

    verb = subparsers.add_parser("list", help="the bundles there are")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=verbs.list_bundles)

    verb = subparsers.add_parser("doctor", help="what this machine can do, and whether the bundles are whole")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=verbs.doctor)

    verb = subparsers.add_parser("worker", help="the process that 3D Slicer and the viewer talk to")
    verb.set_defaults(verb=verbs.worker)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Sentences for the user, without the line of code they come from; other libraries' notices are not for them."""
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)
