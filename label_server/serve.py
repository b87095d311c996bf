"""Start the server: ``python -m label_server.serve --studies FOLDER``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from label_server.checks import ENDINGS, check_port, check_studies
from monai_r2unet.bundle import Bundle, find_bundle, is_shipped
from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, as_switch

__all__ = ["check_bundles", "main", "prepare", "server_name"]

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> int:
    """Read the arguments, prepare the server's folder, and start the server."""
    parser = argparse.ArgumentParser(prog="label_server", description="A MONAI Label server with our bundles.")
    parser.add_argument("--studies", required=True, help="folder with images, or address of a DICOMweb archive")
    parser.add_argument(
        "--bundles", nargs="+", default=["lung"], metavar="NAME", help="names or folders; default: lung"
    )
    parser.add_argument(
        "--trust-bundle", action="store_true", help="let bundles in folders execute any code, and be trained"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--work", type=Path, default=Path(".label-server"), help="the server's own folder; created if missing"
    )
    options = parser.parse_args()
    try:
        bundles = [find_bundle(name, trusted=options.trust_bundle) for name in options.bundles]
        trained = [bundle for bundle in bundles if options.trust_bundle or is_shipped(bundle)]
        check_bundles(bundles, trained)
        check_studies(options.studies)
        check_port(options.host, options.port)
        prepare(options.work, bundles)
    except InputError as error:
        print(f"error: {error.spelled(as_switch)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    command = [
        sys.executable,
        "-m",
        "monailabel.main",
        "start_server",
        "--app",
        str(options.work),
        "--studies",
        options.studies,
    ]
    command += ["--conf", "bundles", ",".join(map(server_name, bundles))]
    command += ["--conf", "trained", ",".join(map(server_name, trained))]
    command += ["--host", options.host, "--port", str(options.port)]
    os.execve(sys.executable, command, environment(options.work.resolve()))


def server_name(bundle: Bundle) -> str:
    """The name of a bundle in the server: its folder's, or for ``organs/eval``, as written by training, ``organs``."""
    return bundle.root.parent.name if bundle.name == "eval" else bundle.name


def check_bundles(bundles: Sequence[Bundle], trained: Sequence[Bundle]) -> None:
    """Check that each bundle can be served: with its weights, or with labels from which it is trained.

    Args:
        bundles: The bundles.
        trained: Those that may be trained, because their author is trusted.

    Raises:
        InputError: if one cannot.
    """
    names = [server_name(bundle) for bundle in bundles]
    for bundle, name in zip(bundles, names, strict=True):
        state = bundle.weights_state()
        if names.count(name) > 1:
            raise InputError(f"two bundles have the name {name!r}: rename the folder of one of them")
        if state == "damaged":
            raise InputError(
                f"the weights of the bundle {name!r} are damaged ({bundle.weights}): train or copy it again, or leave "
                "it out"
            )
        if state == "missing" and bundle not in trained:
            raise InputError(
                f"the bundle {name!r} has no weights yet ({bundle.weights}), and training executes its "
                "configs/train.json, which can contain any code: train it first, or leave it out",
                remedy="let it be trained here, if you trust its author,",
                option="trust_bundle",
            )


def prepare(work: Path, bundles: Sequence[Bundle]) -> None:
    """Create or update the server's working folder: its app, and copies of the bundles.

    Weights trained there are kept. ``models/shipped.pt`` always holds the bundle's own, if it has any.

    Args:
        work: The folder.
        bundles: The bundles, checked by `check_bundles`.
    """
    left_out = shutil.ignore_patterns("eval", "data", "models", "resume", "before_*", "*.pt", "events.out.*")
    for bundle in bundles:
        own = Bundle(work / "model" / server_name(bundle))
        shutil.copytree(bundle.root, own.root, ignore=left_out, dirs_exist_ok=True)
        own.weights.parent.mkdir(exist_ok=True)
        if not bundle.weights.is_file():
            continue
        shutil.copyfile(bundle.weights, own.weights.with_name("shipped.pt"))
        if not own.weights.is_file():
            shutil.copyfile(bundle.weights, own.weights)
    (work / "tmp").mkdir(exist_ok=True)
    app = "from label_server.app import LabelApp\n\n__all__ = ['LabelApp']\n"
    (work / "main.py").write_text(app, encoding="utf-8")


def environment(work: Path) -> dict[str, str]:
    """The server's environment variables: this process's, and MONAI Label's settings unless the user has set them."""
    import torch

    settings = {
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in ENDINGS]),
        # In the working folder, not in the user's home.
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(work / "dicom"),
        "MONAI_LABEL_SESSION_PATH": str(work / "sessions"),
        # The archive's content is cached for this many seconds; by default MONAI Label would offer a labelled image for
        # another two hours.
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "5",
        # Scores are recomputed after each training and on each choice, which on a CPU would slow down everything else.
        "MONAI_LABEL_AUTO_UPDATE_SCORING": str(torch.cuda.is_available()).lower(),
    }
    paths = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        # MONAI Label runs dcmqi's itkimage2segimage, and downloads it unless it is found.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        # A client on this machine would save a mask under the very file name that the server then deletes.
        "TMPDIR": str(work / "tmp"),
    }
    return {**settings, **os.environ, **paths}


if __name__ == "__main__":
    sys.exit(main())
