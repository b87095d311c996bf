"""Collect the output of runs into the result files.

    python -m benchmarks.collect reproduce OUT
    python -m benchmarks.collect training lung first OUT --command "python -m monai.bundle run training ..."

The first adds the results of `monai-r2unet reproduce ... --out OUT` to `benchmarks/results/reproduce.jsonl`, the second
the results and history in a training's output folder to `benchmarks/results/<bundle>_training.jsonl`. Existing records
of the same run are replaced. Then run `python -m benchmarks.tables`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import RESULTS, add
from monai_r2unet.apps.reproduce.records import read_results

__all__ = ["collect_reproduce", "collect_training", "history"]

# The identity of a run of a study.
IDENTITY = ("dataset", "name", "protocol", "network", "recurrences", "seed", "fold", "schedule")


def collect_reproduce(out: Path, results: Path) -> int:
    """Add the results of a study to ``reproduce.jsonl``, without the curves, which no table reads.

    Args:
        out: The study's folder.
        results: Folder of the result files.

    Returns:
        Number of results of the study.
    """
    found = read_results(out / "results")
    kept = [{key: value for key, value in result.items() if key not in ("path", "curve")} for result in found]
    add(kept, results / "reproduce.jsonl", lambda result: json.dumps([result[key] for key in IDENTITY]))
    return len(kept)


def collect_training(bundle: str, name: str, folder: Path, command: str, results: Path) -> None:
    """Add a training of a bundle under the name that its model card uses.

    Args:
        bundle: Name of the bundle.
        name: Name of the training, such as ``first``.
        folder: The training's output folder.
        command: The command used, without folders of this machine.
        results: Folder of the result files.
    """
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    record = {
        "training": name,
        "results": {"command": command, **content, "dataset_dir": Path(content["dataset_dir"]).name},
        "history": history(folder / "history.csv"),
    }
    add([record], results / f"{bundle}_training.jsonl", _name)


def history(path: Path) -> dict[str, list[float | None]]:
    """The columns of a ``history.csv``, one value per epoch; None if it is not a number."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {column: [_number(row[column]) for row in rows] for column in (rows[0] if rows else ())}


def _number(text: str) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _name(record: Mapping[str, Any]) -> str:
    return str(record["training"])


def main() -> None:
    """Collect from the given folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    study = kinds.add_parser("reproduce", help="results of `monai-r2unet reproduce`")
    study.add_argument("out", type=Path, help="folder named by its --out")
    training = kinds.add_parser("training", help="results and history of a training")
    training.add_argument("bundle", help="name of the bundle")
    training.add_argument("name", help="name of the training")
    training.add_argument("out", type=Path, help="its output folder")
    training.add_argument("--command", required=True, help="how it was run, without folders of this machine")
    options = parser.parse_args()
    if options.kind == "reproduce":
        if not (options.out / "results").is_dir():
            parser.error(f"{options.out} has no folder `results`: expected the --out of `monai-r2unet reproduce`")
        print(f"{collect_reproduce(options.out, RESULTS)} results collected")
        return
    for name in ("results.json", "history.csv"):
        if not (options.out / name).is_file():
            parser.error(f"{options.out} has no {name}: expected the output folder of a training that is done")
    collect_training(options.bundle, options.name, options.out, options.command, RESULTS)


if __name__ == "__main__":
    main()
