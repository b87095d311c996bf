"""Measure speed and memory, all or some parts, on an otherwise idle machine.

    python -m benchmarks.speed [cpu] [training] [memory] [end_to_end] [photograph] [gpu]

Writes `benchmarks/results/speed_<part>.json`, then updates the tables of README.md and docs/reference/speed.md.
Requirements:

- MONAI_R2UNET_DATA, the folder with the public data, for memory and end_to_end;
- LUNGMASK_PYTHON, the Python of an environment with lungmask (see `benchmarks.end_to_end`), for the comparison in
  cpu and end_to_end;
- a CUDA device for gpu, which is skipped with a message otherwise.

`--tiny` checks in a minute that everything runs; its figures are meaningless, so they need another folder
(`--results`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import cpu, end_to_end, gpu, measure, memory, photograph, tables, training
from benchmarks.records import RESULTS
from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import write_json

PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    part.__name__.rpartition(".")[2]: part.measure_speed
    for part in (cpu, training, memory, end_to_end, photograph, gpu)
}


def main() -> None:
    """Measure the requested parts, each into its own file."""
    parser = argparse.ArgumentParser(description="Measure speed and memory.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--tiny", action="store_true", help="a trial run on tiny images")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}; there are {', '.join(PARTS)}")
    if options.tiny and options.results.resolve() == RESULTS.resolve():
        parser.error("--tiny measures nothing worth keeping; name another folder with --results")
    options.results.mkdir(exist_ok=True)
    for part in options.parts or PARTS:
        if part == "gpu" and not torch.cuda.is_available():
            print("gpu: not measured, there is no CUDA device here")
            continue
        print(f"{part}: measuring", flush=True)
        result = {
            "command": f"python -m benchmarks.speed {part}",
            "weights_sha256": find_bundle("lung").weights_sha256,
            **measure.machine(),
            **PARTS[part](tiny=options.tiny),
        }
        path = options.results / f"speed_{part}.json"
        write_json(result, path)
        print(f"{part}: written to {path}", flush=True)
    if not options.tiny:
        tables.main()


if __name__ == "__main__":
    main()
