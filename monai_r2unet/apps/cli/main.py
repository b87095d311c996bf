"""The command line: ``monai-r2unet`` and ``python -m monai_r2unet``.

Standard output carries results only; progress and messages go to standard error. Exit codes: 0 done, 2 wrong usage or
input, 3 some cases of a folder failed, 4 nothing was found in the image (the empty mask is written), 1 anything else.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from monai_r2unet.apps.cli import verbs
from monai_r2unet.apps.cli.segment import segment
from monai_r2unet.apps.cli.terminal import EXIT_FAILED
from monai_r2unet.apps.reproduce.study import BUDGET, NETWORKS, PROTOCOLS
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, known_error

__all__ = ["main", "run"]

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


def run() -> NoReturn:
    """The program: `main`, and then out without the interpreter's farewell, half a second once torch is imported."""
    code = main()
    atexit._run_exitfuncs()  # what libraries asked for is still done
    with contextlib.suppress(OSError):  # whoever read our output may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


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
    verb.add_argument(
        "--engine", default="torch", help="torch (default), openvino (faster on a CPU for many slices), ..."
    )
    verb.add_argument("--batch-size", type=_positive, help="slices at a time; changes speed and memory only")
    verb.add_argument("--float32", action="store_true", help="slower, for masks that do not depend on the processor")
    verb.add_argument("--cpu-fallback", action="store_true", help="go on on the CPU where the GPU is full")
    verb.add_argument(
        "--scale",
        metavar="FACTOR|PIXELSpx",
        help="retina, where the field of view is not found: factor (0.5), or the field of view's diameter (1400px)",
    )
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

    verb = subparsers.add_parser("reproduce", help="train and test the paper's networks under its protocol")
    verb.add_argument("dataset", choices=_DATASETS, help="whose bundle is trained")
    verb.add_argument("--data", "--dataset_dir", metavar="FOLDER", help="as `prepare` writes it; default: its sample")
    verb.add_argument(
        "--out", required=True, metavar="FOLDER", help="of the results; a second call does what is missing"
    )
    verb.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all", metavar="NAME")
    verb.add_argument("--seeds", nargs="+", type=_natural, default=(0, 1, 2), help="default: 0 1 2", metavar="N")
    verb.add_argument(
        "--protocol", choices=PROTOCOLS, default="paper", help="the paper's recipe (default) or the bundle's"
    )
    verb.add_argument("--recurrences", type=_positive, default=2, metavar="T", help="the paper's t, default 2")
    verb.add_argument("--name", help="what the data are called in the tables, such as lctsc; default: DATASET")
    verb.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0, ...")
    for budget in BUDGET:
        number = _learning_rate if budget == "lr" else _positive
        verb.add_argument(f"--{budget}", type=number, metavar="N", help="of each training, in place of the protocol's")
    verb.set_defaults(verb=verbs.reproduce)

    verb = subparsers.add_parser("export", help="write a bundle's network as TorchScript or ONNX, for other programs")
    verb.add_argument("bundle", help="name (see `monai-r2unet list`) or folder of the bundle")
    verb.add_argument("output", help="file to write, its ending names the format: .ts (TorchScript) or .onnx")
    verb.add_argument("--weights", help="weights of your own training instead of the bundle's")
    verb.add_argument("--trust-bundle", action="store_true", help="allow code in a bundle that is not shipped")
    verb.add_argument("--overwrite", action="store_true", help="replace existing output")
    verb.set_defaults(verb=verbs.export)

    verb = subparsers.add_parser("list", help="the bundles there are")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=verbs.list_bundles)

    verb = subparsers.add_parser("doctor", help="what this machine can do, and whether the bundles are whole")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=verbs.doctor)

    verb = subparsers.add_parser("view", help="look at images and segment them, in a browser")
    verb.add_argument("image", nargs="?", help="image file or folder with one DICOM series, to open at once")
    verb.add_argument("--folder", help="the only folder to open images from; default: the image's, or the current one")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    verb.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    verb.add_argument("--upload-limit", type=_positive, default=2000, metavar="MB", help="of an upload (default: 2000)")
    verb.set_defaults(verb=verbs.view)

    verb = subparsers.add_parser("worker", help="the process that 3D Slicer and the viewer talk to")
    verb.set_defaults(verb=verbs.worker)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text!r}")
    return int(text)


def _learning_rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Sentences for the user, without the line of code they come from; other libraries' notices are not for them."""
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)
