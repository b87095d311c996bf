"""The MONAI workflow that runs a bundle's configuration: the bundle's folder, and unknown options."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_r2unet._borrowed import running_workflow
from monai_r2unet.errors import InputError

__all__ = ["bundle_root", "check_options", "with_fallback"]

REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")
# What `--tracking mlflow` may be given, beside keys of the configuration.
TRACKING = ("tracking_uri", "experiment_name", "run_name", "save_execute_config")


def bundle_root() -> str:
    """The folder of the bundle whose configuration is running; empty if no workflow runs it, or it is not a bundle.

    The folder is that of the configuration file and not of the working directory, so that a copied bundle reads and
    writes its own files.
    """
    workflow = running_workflow()
    if workflow is None:
        return ""
    folder = Path(workflow.config_root_path)
    root = folder.parent if folder.name == "configs" else folder
    return str(root) if (root / "configs" / "metadata.json").is_file() else ""


def with_fallback(config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A configuration with another folder to fall back to if neither its own nor the working directory is a bundle.

    Args:
        config: Configuration of a bundle. Its ``bundle_root`` ends with that folder in quotes; if not, it stays.
        folder: The new folder, with ``/`` between its parts.
    """
    root = config.get("bundle_root")
    if not isinstance(root, str):
        return dict(config)
    return {**config, "bundle_root": re.sub(r"'[^']*'\)$", lambda _: f"'{folder}')", root)}


def check_options() -> None:
    """Refuse options that nothing in the configuration uses: MONAI silently accepts misspelt ones.

    Raises:
        InputError: an option is neither in one of the bundle's configurations nor used by the merged one.
    """
    workflow = running_workflow()
    if workflow is None:
        return
    config = {key: value for key, value in workflow.parser.get().items() if not key.startswith("_")}
    folder = Path(workflow.config_root_path)
    known = set(TRACKING)
    for path in {*folder.glob("*.json"), *(folder / "configs").glob("*.json")}:
        known |= {_normal(key) for key in _keys(_content(path))}
    used = {_normal(name) for text in _texts(config) for name in REFERENCE.findall(text)}
    for key in _options(config):
        in_use = any(f"{key}#".startswith(f"{name}#") or name.startswith(f"{key}#") for name in used)
        if key not in known and not in_use:
            names = sorted(known | {name for name in used if name in config})
            near = difflib.get_close_matches(key, names, n=1)
            raise InputError(
                f"unknown option --{key}: nothing in the configuration uses it"
                + (f"; did you mean --{near[0]}?" if near else ", so check its spelling")
            )


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not what is running, which MONAI has read
        return {}


def _normal(key: str) -> str:
    return key.lstrip("+").replace("::", "#")


def _keys(content: Any, prefix: str = "") -> Iterator[str]:
    """The IDs of everything in a configuration, without those within lists."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}#")


def _texts(content: Any) -> Iterator[str]:
    """All texts in a configuration."""
    if isinstance(content, str):
        yield content
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _texts(value)


def _options(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The IDs of what may have come from the command line: neither components, which check their own arguments, nor
    expressions."""
    for key, value in content.items():
        if isinstance(value, dict) and "_target_" in value:
            continue
        if any(text.startswith("$") for text in _texts(value)) and not isinstance(value, dict):
            continue
        if isinstance(value, dict) and any("_target_" in one for one in _dicts(value)):
            yield from _options(value, f"{prefix}{key}#")
            continue
        yield f"{prefix}{key}"


def _dicts(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _dicts(value)
