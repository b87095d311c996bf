"""The verb ``list``: the available bundles."""

from __future__ import annotations

import argparse
import json

from monai_r2unet.apps.cli.terminal import EXIT_DONE
from monai_r2unet.bundle import list_bundles

__all__ = ["HELP", "add_arguments", "run"]

HELP = "list the available bundles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the available bundles."""
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
        for bundle in list_bundles()
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
