"""The command line: ``monai-r2unet`` and ``python -m monai_r2unet``.

Standard output carries results only; progress and messages go to standard error. Exit codes: 0 done, 2 wrong usage or
input, 4 nothing was found in the image (the empty mask is written), 1 anything else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_r2unet.errors import EXIT_BAD_INPUT, InputError, find_input_error

__all__ = ["main"]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NOTHING_FOUND = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        return verb(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        bad_input = find_input_error(error)
        if bad_input is None:
            raise
        print(f"error: {bad_input}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monai-r2unet", description="R2U-Net segmentation of medical images. For research use, not for diagnosis."
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    verb = verbs.add_parser("segment", help="segment one image", description="Segment one image.")
    verb.add_argument("input", help="NIfTI, NRRD or MetaImage file, DICOM file, or folder with one DICOM series")
    verb.add_argument("output", help="mask to write: .nii.gz, .nii, .nrrd or .mha, on the input's own grid")
    verb.add_argument("--bundle", required=True, help="which bundle segments; see `monai-r2unet list`")
    verb.add_argument("--weights", help="weights of your own training instead of the bundle's")
    verb.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0, ...")
    verb.add_argument("--batch-size", type=_positive, help="slices at a time; changes speed and memory only")
    verb.add_argument("--series", help="series UID, where the folder holds several DICOM series")
    verb.add_argument("--probabilities", metavar="FILE", help="also write the foreground probabilities")
    verb.add_argument("--report", metavar="FILE.json", help="also write what was run, with what, and what came out")
    verb.add_argument("--allow-nonfinite", type=int, default=0, metavar="N", help="accept N NaN or infinite voxels")
    verb.add_argument("--overwrite", action="store_true", help="replace existing output")
    verb.set_defaults(verb=_segment)

    verb = verbs.add_parser("evaluate", help="measure a mask against its reference")
    verb.add_argument("prediction", help="mask")
    verb.add_argument("reference", help="reference mask on the same grid")
    verb.add_argument("--json", metavar="FILE", help="also write the measures to a file")
    verb.add_argument("--overwrite", action="store_true", help="replace existing output")
    verb.set_defaults(verb=_evaluate)

    verb = verbs.add_parser("prepare", help="bring a public data set, or your own, into the form the bundles read")
    verb.add_argument("dataset", choices=["lung"], help="bundle to prepare data for")
    verb.add_argument("source", help="folder of the data as downloaded")
    verb.add_argument("dest", help="folder to write to; an existing one is added to")
    verb.add_argument("--layout", help="luna16, lctsc, kaggle or pairs; found out where not given")
    verb.add_argument("--split", metavar="CSV", help="table with the columns case and split")
    verb.add_argument("--slices-per-case", type=_positive, help="keep that many axial slices of each volume")
    verb.add_argument("--rescale-intercept", type=float, help="added to the stored values to give HU")
    verb.add_argument("--seed", type=int, default=0, help="of the split, where none is given")
    verb.set_defaults(verb=_prepare)

    verb = verbs.add_parser("list", help="the bundles there are")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=_list)

    verb = verbs.add_parser("doctor", help="what this machine can do, and whether the bundles are whole")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(verb=_doctor)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _segment(options: argparse.Namespace) -> int:
    from monai_r2unet.io import check_output, read_image, write_image
    from monai_r2unet.results import versions, write_json
    from monai_r2unet.segmenter import Segmenter

    check_output(options.output, overwrite=options.overwrite)
    if options.probabilities:
        check_output(options.probabilities, overwrite=options.overwrite)
    if options.report:
        _check_json(options.report, options.overwrite)
    _check_distinct(options.input, options.output, options.probabilities, options.report)

    started = time.perf_counter()
    # The image first: it fails more often than the bundle, and faster.
    image = read_image(options.input, series=options.series)
    read = time.perf_counter()
    segmenter = Segmenter(options.bundle, options.device, options.weights, options.batch_size)
    loaded = time.perf_counter()
    with _ProgressBar("Segmenting") as bar:
        result = segmenter.run(
            image,
            probabilities=bool(options.probabilities),
            allow_nonfinite=options.allow_nonfinite,
            on_progress=bar.update,
        )
    for sentence in result.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    segmented = time.perf_counter()
    if result.probabilities is not None:
        write_image(result.probabilities, options.probabilities, overwrite=options.overwrite)
    write_image(result.mask, options.output, overwrite=options.overwrite)
    seconds = {
        "read": read - started,
        "load": loaded - read,
        **result.seconds,
        "write": time.perf_counter() - segmented,
    }
    if options.report:
        report = {
            "input": str(options.input),
            "output": str(options.output),
            "bundle": segmenter.bundle.name,
            "bundle_version": segmenter.bundle.metadata.get("version"),
            "weights": str(options.weights or segmenter.bundle.weights),
            "weights_sha256": segmenter.weights_sha256,
            "device": str(segmenter.device),
            "batch_size": segmenter.inferer.batch_size,
            "size": list(image.GetSize()),
            "spacing_mm": list(image.GetSpacing()),
            "voxels": result.voxels,
            "millilitres": result.millilitres,
            "warnings": result.warnings,
            "seconds": seconds,
            "versions": versions(),
        }
        write_json(report, options.report)
    print(f"{options.output}\t{result.voxels} voxels\t{result.millilitres:.1f} mL")
    if result.voxels == 0:
        print(
            f"warning: nothing was found in {options.input}; the mask is empty. Is this the image the bundle "
            f"{segmenter.bundle.name!r} is made for?",
            file=sys.stderr,
        )
        return EXIT_NOTHING_FOUND
    return EXIT_DONE


def _evaluate(options: argparse.Namespace) -> int:
    import SimpleITK as sitk

    from monai_r2unet.io import read_image, same_grid
    from monai_r2unet.metrics import evaluate_case, summarize
    from monai_r2unet.results import format_summary, versions, write_json

    if options.json:
        _check_json(options.json, options.overwrite)
    prediction, reference = read_image(options.prediction), read_image(options.reference)
    if not same_grid(prediction, reference):
        raise InputError(
            f"{options.prediction} ({_grid(prediction)}) and {options.reference} ({_grid(reference)}) do not lie on "
            "the same grid; give masks of the same image"
        )
    case = evaluate_case(
        Path(options.prediction).name,
        sitk.GetArrayFromImage(prediction),
        sitk.GetArrayFromImage(reference),
    )
    summary = summarize([case])
    if options.json:
        inputs = {"prediction": str(options.prediction), "reference": str(options.reference)}
        write_json({**inputs, "versions": versions(), **summary}, options.json)
    print(format_summary(summary))
    return EXIT_DONE


def _prepare(options: argparse.Namespace) -> int:
    from monai_r2unet.datasets import lung

    with _ProgressBar("Preparing") as bar:
        datalist = lung.prepare(
            Path(options.source),
            Path(options.dest),
            layout=options.layout,
            slices_per_case=options.slices_per_case,
            rescale_intercept=options.rescale_intercept,
            split=Path(options.split) if options.split else None,
            seed=options.seed,
            progress=bar.update,
        )
    counts = {split: len(datalist.get(split, [])) for split in ("training", "validation", "test")}
    print(f"{options.dest}\t" + "\t".join(f"{split} {count}" for split, count in counts.items()))
    return EXIT_DONE


def _list(options: argparse.Namespace) -> int:
    from monai_r2unet.bundle import list_bundles

    rows = [
        {
            "name": bundle.name,
            "task": bundle.metadata.get("task", ""),
            "version": bundle.metadata.get("version", ""),
            "trained_on": bundle.metadata.get("data_source", ""),
            "licence": bundle.metadata.get("weights", {}).get("licence", ""),
            "labels": [label["name"] for label in bundle.labels],
            "weights": bundle.weights_state(),
            "folder": str(bundle.root),
        }
        for bundle in list_bundles()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return EXIT_DONE
    for row in rows:
        print(f"{row['name']} {row['version']}: {row['task']}")
        print(f"  labels      {', '.join(row['labels'])}")
        print(f"  trained on  {row['trained_on']}")
        print(f"  weights     {row['weights']}; {row['licence']}")
    return EXIT_DONE


def _doctor(options: argparse.Namespace) -> int:
    from monai_r2unet.doctor import examine, format_examination

    examination = examine()
    print(json.dumps(examination, indent=2) if options.json else format_examination(examination))
    return EXIT_DONE if examination["usable"] else EXIT_FAILED


def _check_distinct(*paths: str | None) -> None:
    """Refuse to write over the input, or one output over another."""
    given = [path for path in paths if path is not None]
    for path in given:
        if sum(Path(path).resolve() == Path(other).resolve() for other in given) > 1:
            raise InputError(f"{path} is named twice, as input or output; give each file its own name")


def _check_json(path: str, overwrite: bool) -> None:
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder, expected the name of a file to write: add one")
    if Path(path).exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or pass --overwrite")
    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: its folder does not exist; make it first")


def _grid(image: Any) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in image.GetSpacing())
    return f"{' x '.join(map(str, image.GetSize()))} voxels of {spacing} mm"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Sentences for the user, without the line of code they come from; other libraries' notices are not for them."""
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)


class _ProgressBar:
    """A bar on standard error whose total comes with the first step; silent where nobody watches."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Any = None

    def update(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, disable=None, file=sys.stderr)
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
