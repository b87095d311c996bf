"""The verbs of the command line but ``segment``. Each takes the parsed options and gives the exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_r2unet.apps.cli.terminal import EXIT_DONE, EXIT_FAILED, EXIT_SOME_FAILED, ProgressBar
from monai_r2unet.errors import InputError

__all__ = ["doctor", "evaluate", "export", "list_bundles", "prepare", "reproduce", "worker"]

# Imports that take seconds are made in the verb that needs them: usage errors answer at once.


def evaluate(options: argparse.Namespace) -> int:
    """Measure a mask against its reference."""
    import SimpleITK as sitk

    from monai_r2unet.files import write_json
    from monai_r2unet.images.grid import same_grid
    from monai_r2unet.images.reading import read_image
    from monai_r2unet.images.writing import check_place
    from monai_r2unet.metrics.measures import evaluate_case, summarize
    from monai_r2unet.metrics.tables import format_summary
    from monai_r2unet.provenance import versions

    if options.json:
        check_place(options.json, overwrite=options.overwrite)
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


def prepare(options: argparse.Namespace) -> int:
    """Bring a data set into the form the bundles read."""
    from monai_r2unet.datasets import chase_db1, drive, lung, skin, stare
    from monai_r2unet.datasets.datalist import SPLITS

    preparations: dict[str, Callable[..., dict[str, Any]]] = {
        "lung": lung.prepare,
        "drive": drive.prepare,
        "stare": stare.prepare,
        "chase_db1": chase_db1.prepare,
        "skin": skin.prepare,
    }
    # What is left are the options that only this data set has, under the names of the function's arguments.
    own = {key: value for key, value in vars(options).items() if key not in ("verb", "dataset", "source", "dest")}
    with ProgressBar("Preparing") as bar:
        datalist = preparations[options.dataset](Path(options.source), Path(options.dest), **own, progress=bar.update)
    counts = {split: len(datalist.get(split, [])) for split in SPLITS}
    print(f"{options.dest}\t" + "\t".join(f"{split} {count}" for split, count in counts.items()))
    return EXIT_DONE


def reproduce(options: argparse.Namespace) -> int:
    """Train and test the paper's networks, and print the paper's table with ours beside it."""
    from monai_r2unet.apps.cli.processes import failures_everywhere
    from monai_r2unet.apps.reproduce.records import read_results
    from monai_r2unet.apps.reproduce.session import carry_out
    from monai_r2unet.apps.reproduce.study import study_of
    from monai_r2unet.apps.reproduce.tables import table_of

    study = study_of(options)
    failed = failures_everywhere(carry_out(study, lambda name: print(f"{name}: done", file=sys.stderr)))
    if int(os.environ.get("RANK", "0")) == 0:
        print(table_of(study.dataset, read_results(study.out / "results")))
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def export(options: argparse.Namespace) -> int:
    """Write a bundle's network as TorchScript or ONNX."""
    from monai_r2unet.inference.export import export_network

    difference = export_network(
        options.bundle,
        options.output,
        options.weights,
        trust_bundle=options.trust_bundle,
        overwrite=options.overwrite,
    )
    print(f"{options.output}\tlogits differ from torch's by {difference:.1e} of the largest")
    return EXIT_DONE


def list_bundles(options: argparse.Namespace) -> int:
    """Print the bundles there are."""
    from monai_r2unet import bundle as bundles

    rows = [
        {
            "name": bundle.name,
            "task": bundle.metadata.get("task", ""),
            "version": bundle.metadata.get("version", ""),
            "trained_on": bundle.metadata.get("data_source", ""),
            "licence": bundle.weights_licence,
            "labels": [label["name"] for label in bundle.labels],
            "weights": bundle.weights_state(),
            "folder": str(bundle.root),
        }
        for bundle in bundles.list_bundles()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return EXIT_DONE
    for row in rows:
        print(f"{row['name']} {row['version']}: {row['task']}")
        print(f"  labels      {', '.join(row['labels'])}")
        print(f"  trained on  {row['trained_on']}")
        hint = f": train the bundle before use, see {row['folder']}/docs/README.md" * (row["weights"] == "missing")
        print(f"  weights     {row['weights']}{hint}; {row['licence']}")
    return EXIT_DONE


def doctor(options: argparse.Namespace) -> int:
    """Print what this machine can do; exit code 1 if nothing can be segmented."""
    from monai_r2unet.apps.cli.doctor import examine, format_examination

    examination = examine()
    print(json.dumps(examination, indent=2) if options.json else format_examination(examination))
    return EXIT_DONE if examination["usable"] else EXIT_FAILED


def view(options: argparse.Namespace) -> int:
    """Serve the viewer until interrupted."""
    from monai_r2unet.apps.cli.view import view

    return view(options)


def worker(options: argparse.Namespace) -> int:
    """Serve 3D Slicer or the viewer until they leave."""
    from monai_r2unet.apps.worker.server import main

    main()


def _grid(image: Any) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in image.GetSpacing())
    return f"{' x '.join(map(str, image.GetSize()))} voxels of {spacing} mm"
