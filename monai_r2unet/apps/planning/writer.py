"""Write the bundle that a plan describes: the shipped bundles' configurations, changed where the task differs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_r2unet.apps.planning.configs import PICTURES, VOLUMES, changes_of
from monai_r2unet.apps.planning.description import card_of, metadata_of
from monai_r2unet.apps.planning.plan import Plan
from monai_r2unet.bundle import CONFIGS, find_bundle
from monai_r2unet.bundle.workflow import with_fallback
from monai_r2unet.datasets.datalist import SPLITS, write_datalist
from monai_r2unet.errors import InputError
from monai_r2unet.files import temporary_name

__all__ = ["check_destination", "write_bundle"]

IN_ROOT = ("train.json", "metadata.json", "logging.conf")  # MONAI reads them there, too


def check_destination(dest: Path, *, overwrite: bool) -> None:
    """Check, before any work is done, that a bundle can be written.

    Raises:
        InputError: ``dest`` exists, or is not a name for a folder.
    """
    if not re.fullmatch(r"\w[\w.-]*", dest.name):
        raise InputError(
            f"{dest.name!r} is not a valid name for a bundle: use letters, digits, dots, dashes and underscores"
        )
    if dest.exists() and not (overwrite and (dest / "configs" / "metadata.json").is_file()):
        raise InputError(f"{dest} exists already: choose another name or, for a bundle, use --overwrite")
    if not dest.parent.is_dir():
        raise InputError(f"the folder {dest.parent} does not exist, so {dest.name} cannot be written: create it first")


def write_bundle(plan: Plan, dest: Path, *, overwrite: bool = False) -> None:
    """Write a complete bundle, without weights, or nothing.

    Args:
        plan: What to write.
        dest: The bundle's folder; its name is the bundle's.
        overwrite: Replace an existing bundle, and with it the weights that were trained in it.

    Raises:
        InputError: ``dest`` exists, is not a name for a folder, or is to be replaced and holds the images.
    """
    check_destination(dest, overwrite=overwrite)
    files = [path for one in plan.survey.cases for path in (one.case.image, one.case.label)]
    inside = [path for path in files if path.resolve().is_relative_to(dest.resolve())]
    if inside:
        raise InputError(
            f"{dest} would be replaced with the images and masks that lie in it, such as {inside[0]}: move them to a "
            "folder of their own, or choose another name"
        )
    base = find_bundle(VOLUMES if plan.survey.volumes else PICTURES).root
    partial = temporary_name(dest)
    try:
        (partial / "configs").mkdir(parents=True)
        (partial / "docs").mkdir()
        (partial / "models").mkdir()
        (partial / "data").mkdir()
        changes = changes_of(plan)
        for name in CONFIGS:
            config = json.loads((base / "configs" / f"{name}.json").read_text(encoding="utf-8"))
            changed = with_fallback(_changed(config, changes.get(name, {})), dest.name)
            _write(partial / "configs" / f"{name}.json", changed)
        metadata = json.loads((base / "configs" / "metadata.json").read_text(encoding="utf-8"))
        _write(partial / "configs" / "metadata.json", metadata_of(plan, dest.name, metadata))
        shutil.copyfile(base / "configs" / "logging.conf", partial / "configs" / "logging.conf")
        shutil.copyfile(base / "LICENSE", partial / "LICENSE")
        for name in IN_ROOT:
            shutil.copyfile(partial / "configs" / name, partial / name)
        (partial / "docs" / "README.md").write_text(card_of(plan, dest.name), encoding="utf-8")
        (partial / "docs" / "data_license.txt").write_text(
            "The terms of the images and masks that this bundle is trained on, and with them those of its weights, are "
            "for their owner to state here.\n",
            encoding="utf-8",
        )
        write_datalist(partial / "data", _datalist(plan, dest.name))
        if dest.exists():
            shutil.rmtree(dest)
        os.replace(partial, dest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other entries: ``a#b`` goes into nested ones, ``~a`` removes one.

    Configurations that override others have such keys themselves, and keep them.
    """
    overrides = any("#" in key for key in config)
    for key, value in changes.items():
        if key.startswith("~"):
            config.pop(key[1:], None)
        elif overrides:
            config[key] = value
        else:
            parser = ConfigParser(config)
            parser[key] = value
            config = parser.get()
    return config


def _datalist(plan: Plan, name: str) -> dict[str, Any]:
    """The data list, with absolute paths: the images stay where they are."""
    sets: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for one in plan.survey.cases:
        case = one.case
        entry = {"image": str(case.image.resolve()), "label": str(case.label.resolve())}
        sets[plan.split[case.name]].append(entry | ({"patient": case.patient} if case.patient else {}))
    if not sets["validation"]:  # a single patient: validation shows no more than that the network learns
        sets["validation"] = sets["training"]
    return {"name": name, "labels": list(plan.survey.labels), **{key: value for key, value in sets.items() if value}}


def _write(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
