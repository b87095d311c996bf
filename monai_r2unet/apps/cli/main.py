"""The command line: ``monai-r2unet`` and ``python -m monai_r2unet``.

Standard output carries results only; progress and messages go to standard error. Exit codes: 0 done, 2 wrong usage or
input, 3 some cases of a folder failed, 4 nothing was found in the image (the empty mask is written), 1 anything else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from monai_r2unet._borrowed import run_exit_functions
from monai_r2unet.apps.cli import (
    bundles,
    dicom_node,
    doctor,
    evaluate,
    export,
    new,
    prepare,
    reproduce,
    segment,
    view,
    worker,
)
from monai_r2unet.apps.cli.arguments import with_dashes
from monai_r2unet.apps.cli.terminal import EXIT_FAILED, say
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, as_switch, known_error
from monai_r2unet.inference.startup import open_standard_streams

__all__ = ["VERBS", "main", "parser", "run"]

# Imports that take seconds are made in the `run` of the verb that needs them, so usage errors appear at once.
VERBS = {
    "segment": segment,
    "evaluate": evaluate,
    "new": new,
    "prepare": prepare,
    "reproduce": reproduce,
    "export": export,
    "list": bundles,
    "doctor": doctor,
    "view": view,
    "worker": worker,
    "dicom-node": dicom_node,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(list(with_dashes(words)))
    # typeshed names every parameter; ours collects the last four.
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    verb: Callable[[argparse.Namespace], int] = options.run
    try:
        return verb(options)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except Exception as error:
        known = known_error(error)
        if isinstance(known, InputError):
            say(f"error: {known.spelled(as_switch)}")
            return EXIT_BAD_INPUT
        if isinstance(error, OSError | MemoryError):  # not the input's fault, and not ours
            say(f"error: {str(error) or 'not enough memory: close other programs'}")
            return EXIT_FAILED
        raise


def run() -> NoReturn:
    """The program: `main`, then exit without the interpreter's shutdown, which torch makes slow (half a second)."""
    open_standard_streams()
    code = main()
    run_exit_functions()  # as registered by libraries
    with contextlib.suppress(OSError):  # the reader of our output may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs; options have dashes, see `with_dashes`."""
    parser = argparse.ArgumentParser(
        prog="monai-r2unet", description="R2U-Net segmentation of medical images. For research use, not for diagnosis."
    )
    subparsers = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        of_verb = subparsers.add_parser(name, help=verb.HELP)
        verb.add_arguments(of_verb)
        of_verb.set_defaults(run=verb.run)
    return parser


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Print our warnings as plain sentences; those of other libraries are not for the user."""
    if category is UserWarning:
        say(f"warning: {message}")
