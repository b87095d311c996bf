"""The definition of a study: data set, networks, seeds and, for STARE, the photographs left out in turn."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError

__all__ = ["BUDGET", "NETWORKS", "OBSERVER", "PROTOCOLS", "Study", "StudyRun", "command", "study_of"]

NETWORKS = ("ForwardUNet", "ResUNet", "RUNet", "R2UNet", "AttentionR2UNet")
OBSERVER = "second observer"  # treated as a network if a test set has a second reference
PROTOCOLS = ("paper", "default")

BUDGET = ("epochs", "patches", "patch_size", "slice_size", "batch_size", "lr")
"""Options passed on to the bundle's training under the same names."""


@dataclass(frozen=True)
class StudyRun:
    """One training and test of a network, or the second observer scored like a network.

    Args:
        network: Name of its class, or ``OBSERVER``.
        seed: Seed of the training; ``None`` for the observer.
        data: Folder with ``datalist.json``.
        fold: The photograph left out of training and used for test; ``None`` if there is one test set.
    """

    network: str
    seed: int | None
    data: Path
    fold: str | None = None


@dataclass(frozen=True)
class Study:
    """Networks to be trained and tested on one data set, with the same protocol and budget.

    Args:
        dataset: Name of the bundle.
        data: Folder with ``datalist.json``, as written by ``prepare``.
        out: Folder of the results.
        networks: Names of the networks' classes.
        seeds: Seeds of each network's training runs.
        protocol: ``"paper"``: the paper's recipe (``configs/paper.json`` of the bundle); ``"default"``: the bundle's.
        recurrences: The paper's t.
        name: Name of the data in file names and tables.
        budget: Values that replace those of the protocol in the training's configuration, by name.
        device: A device as in :func:`monai_r2unet.inference.devices.choose_device`.
    """

    dataset: str
    data: Path
    out: Path
    networks: Sequence[str] = NETWORKS
    seeds: Sequence[int] = (0, 1, 2)
    protocol: str = "paper"
    recurrences: int = 2
    name: str = ""
    budget: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    @property
    def folds(self) -> list[Path]:
        """The data folders of a leave-one-out test, or none."""
        folder = self.data / "leave_out"
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def runs(self, observer: bool) -> Iterator[StudyRun]:
        """All runs; networks alternate, so that an unfinished study can compare what it has.

        Args:
            observer: The test set has a second reference.
        """
        places: list[tuple[Path, str | None]] = [(path, path.name) for path in self.folds]
        places = places or [(self.data, None)]
        if observer:
            yield from (StudyRun(OBSERVER, None, data, fold) for data, fold in places)
        for seed in self.seeds:
            for data, fold in places:
                yield from (StudyRun(network, seed, data, fold) for network in self.networks)

    def id_of(self, run: StudyRun) -> str:
        """The name of a run's files."""
        if run.network == OBSERVER:
            parts = [self.name, "observer2"]
        else:
            parts = [self.name, self.protocol, run.network, f"t{self.recurrences}", f"seed{run.seed}"]
        return "-".join([*parts, run.fold] if run.fold else parts)


def study_of(options: argparse.Namespace) -> Study:
    """The study described by the command-line options.

    Raises:
        InputError: if no data are given and the bundle has no sample, if a name is not usable in file names, if a
            network or seed is given twice, or if packages needed for training are missing.
    """
    missing = [module for module in ("matplotlib", "tensorboard") if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f'reproduce needs {" and ".join(missing)}: pip install "monai-r2unet[train]"')
    sample = find_bundle(options.dataset).root / "sample"
    if options.data is None and not sample.is_dir():
        raise InputError(
            f"the bundle {options.dataset} comes without images: make a folder of them with `monai-r2unet prepare "
            f"{options.dataset} DOWNLOAD FOLDER` and name it with --data"
        )
    name = options.dataset if options.name is None else options.name
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise InputError(f"--name is {name!r}, expected letters, digits and _ only, since files are named after it")
    for what in ("networks", "seeds"):
        given = getattr(options, what)
        if len(set(given)) < len(given):
            raise InputError(f"--{what} names one twice ({', '.join(map(str, given))}): name each once")
    return Study(
        dataset=options.dataset,
        data=(sample if options.data is None else Path(options.data)).resolve(),
        out=Path(options.out).resolve(),
        networks=tuple(options.networks),
        seeds=tuple(options.seeds),
        protocol=options.protocol,
        recurrences=options.recurrences,
        name=name,
        budget={key: getattr(options, key) for key in BUDGET if getattr(options, key) is not None},
        device=options.device,
    )


def command(result: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """The command that reproduces a result like this one, with ``DATA`` and ``OUT`` for the folders.

    Args:
        result: Content of a result's file.
        seeds: Seeds of the training runs.
    """
    words = ["monai-r2unet", "reproduce", result["dataset"], "--data", "DATA", "--out", "OUT"]
    if result["name"] != result["dataset"]:
        words += ["--name", result["name"]]
    if result["network"] != OBSERVER:
        words += ["--networks", result["network"], "--seeds", *map(str, seeds), "--protocol", result["protocol"]]
        words += ["--recurrences", str(result["recurrences"])] if result["recurrences"] != 2 else []
    for name, value in result["options"].items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return shlex.join(words)
