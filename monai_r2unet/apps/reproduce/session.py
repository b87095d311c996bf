"""Carry out a study, in one process or in several that share its runs; finished runs are not repeated.

In the output folder, ``results`` has a JSON file and a curve for each finished run, ``runs`` the output of training
(weights, history, figures; checkpoints until the run is finished), ``figures`` curves and overlays, and ``tables.md``
the paper's rows beside ours. Only the holder of a run's lock writes its files; the operating system releases the lock
when that process ends, for whatever reason.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from monai_r2unet.apps.reproduce.drawing import draw_curves, draw_overlays
from monai_r2unet.apps.reproduce.records import check_comparable, facts_of, read_results, regions_of, write_curve
from monai_r2unet.apps.reproduce.study import OBSERVER, Study, StudyRun, command
from monai_r2unet.apps.reproduce.tables import all_tables
from monai_r2unet.apps.reproduce.workflows import schedule_of, test, train
from monai_r2unet.datasets.datalist import load_datalist
from monai_r2unet.errors import InputError, known_error, sentence_of
from monai_r2unet.files import write_json, written_whole
from monai_r2unet.inference.devices import choose_device
from monai_r2unet.provenance import processor_name, versions

__all__ = ["carry_out"]

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """A run with its identity and the paths of its files."""

    run: StudyRun
    id: str
    facts: dict[str, Any]
    result: Path
    folder: Path


def carry_out(study: Study, on_run: Callable[[str], None]) -> int:
    """Carry out the pending runs of a study, then write tables and figures of all results.

    Args:
        study: The study.
        on_run: Called after each run with its name.

    Returns:
        The number of failed runs; they are named on standard error, and another call repeats them.

    Raises:
        InputError: the data, the budget, the device or the output folder cannot be used, or that folder has results
            made under other conditions.
    """
    plans = _plan(study)
    device = str(choose_device(study.device))
    check_comparable([plan.facts for plan in plans], study.out)
    _make_folders(study.out, plans)
    failed = 0
    for plan in plans:
        try:
            with FileLock(plan.folder / "lock", blocking=False):
                if not plan.result.exists():
                    print(f"{plan.id}: running on {device}", file=sys.stderr)
                    _do(study, plan, device)
                    on_run(plan.id)
                    write_tables(study.out)
        except Timeout:  # another process holds the lock
            continue
        except Exception as error:  # no failure of one run may end the others
            failed += 1
            if known_error(error) is None:
                logger.exception("run %s", plan.id)
            print(f"failed: {plan.id}: {sentence_of(error)}", file=sys.stderr)
    _draw(study, plans, device)
    write_tables(study.out)
    return failed


def write_tables(out: Path) -> None:
    """Write ``tables.md`` from the current results, and again if another process has added one meanwhile."""
    while True:
        results = read_results(out / "results")
        with written_whole(out / "tables.md", ".tmp") as temporary:
            temporary.write_text(all_tables(results), encoding="utf-8")
        if len(read_results(out / "results")) == len(results):
            return


# ---- a run -----------------------------------------------------------------------------------------------------------


def _plan(study: Study) -> list[Plan]:
    schedule = schedule_of(study)
    load_datalist(study.data)
    tested = [entry for folder in study.folds or [study.data] for entry in load_datalist(folder, "test")]
    plans = []
    for run in study.runs(observer=all("label_2" in entry for entry in tested)):
        name = study.id_of(run)
        facts = facts_of(study, run, schedule)
        plans.append(Plan(run, name, facts, study.out / "results" / f"{name}.json", study.out / "runs" / name))
    return plans


def _make_folders(out: Path, plans: list[Plan]) -> None:
    try:
        for folder in (out / "results", out / "figures", *(plan.folder for plan in plans)):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be used for the results ({error.strerror}): choose another --out") from error
    if not os.access(out / "results", os.W_OK | os.X_OK):
        raise InputError(f"the folder {out} is not writable: choose another --out or change its permissions")


def _do(study: Study, plan: Plan, device: str) -> None:
    """Train and test; the result's file is written last."""
    write_json(plan.facts, plan.folder / "run.json")
    threshold, training = 0.5, None
    if plan.run.network != OBSERVER:
        report, seconds = train(study, plan.run, plan.folder, device)
        best = report["validation"].get("val_best_threshold")  # null if nothing was found on validation
        threshold = threshold if best is None else best
        training = {"seconds": seconds, "best_epoch": report["best_epoch"], "validation": report["validation"]}
    tested = test(study, plan.run, plan.folder, device, threshold)
    curve = plan.result.with_suffix(".csv")
    options = {**study.budget, **({} if study.device == "auto" else {"device": study.device})}
    result: dict[str, Any] = {**plan.facts, "options": options}
    if training is None:
        for region in (regions := regions_of(tested.evaluation)).values():
            region["pooled"]["auc"] = region["per_image"]["mean"]["auc"] = None  # a mask has no ROC curve
        result |= {"test": {"threshold": None, "regions": regions}}
    else:
        write_curve(tested.cases, curve)
        result |= {
            "parameters": tested.parameters,
            "training": training,
            "test": {
                "threshold": threshold,
                "seconds": tested.seconds,
                "seconds_per_image": tested.seconds / len(tested.cases),
                "regions": regions_of(tested.evaluation),
            },
            "curve": curve.name,
        }
    result |= {"device": _describe(device), "versions": versions()}
    result["command"] = command(result, [] if plan.run.seed is None else [plan.run.seed])
    write_json(result, plan.result)
    shutil.rmtree(plan.folder / "resume", ignore_errors=True)


def _describe(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, in part {processor_name()}"
    return f"{processor_name()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def _draw(study: Study, plans: list[Plan], device: str) -> None:
    """Draw the available figures: curves always, a network and seed's overlays once, when all its runs are finished."""
    draw_curves(study, read_results(study.out / "results"))
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        if plan.run.network != OBSERVER:
            groups.setdefault(study.id_of(replace(plan.run, fold=None)), []).append(plan)
    for name, group in groups.items():
        figure = study.out / "figures" / f"{name}.png"
        try:
            with FileLock(group[0].folder / "lock", blocking=False):
                if not figure.exists() and all(plan.result.exists() for plan in group):
                    draw_overlays(study, [(plan.run, plan.folder) for plan in group], figure, device)
        except Timeout:
            continue
