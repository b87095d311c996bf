"""Make the output folder of a training a bundle, with the settings that the training was given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from monai_r2unet.bundle import CONFIGS
from monai_r2unet.bundle.workflow import with_fallback
from monai_r2unet.files import sha256, temporary_name, write_json, written_whole

__all__ = ["TrainedBundle"]

COPIED = ("LICENSE", "docs/data_license.txt", "configs/logging.conf", "logging.conf")


class TrainedBundle:
    """Write a complete bundle into the output folder of a training, for ``segment --bundle FOLDER`` and all else.

    Its configurations are those of the bundle that was trained, with the network and the settings that the training was
    given, such as ``--recurrences`` and ``--slice_size``: weights alone would need the same options again, or would
    load and give wrong masks. Its metadata have the weights' checksum, the validation's measures and the versions.

    Args:
        root: Folder of the bundle that is trained.
        dataset_dir: Data that it is trained on.
        settings: What the training was given for entries that its configurations have: name -> value; ``a#b`` is the
            entry ``b`` of ``a``.
    """

    def __init__(self, root: str, dataset_dir: str, settings: Mapping[str, Any]) -> None:
        self.root = Path(root).absolute()
        self.dataset_dir = dataset_dir
        self.settings = dict(settings)

    def write(self, dest: Path, weights: Path, network: nn.Module, results: Mapping[str, Any]) -> None:
        """Write the bundle; nothing if ``dest`` is the trained bundle itself, or that has no configurations.

        Args:
            dest: Output folder of the training.
            weights: State dict of the best epoch.
            network: The network, of one of the paper's classes for its arguments to be kept.
            results: Measures and facts of the training.

        Raises:
            OutputError: the disk is full or failed.
        """
        metadata = self.root / "configs" / "metadata.json"
        if not metadata.is_file() or not weights.is_file() or dest.resolve() == self.root.resolve():
            return
        for folder in ("configs", "models", "docs"):
            (dest / folder).mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            if (self.root / name).is_file():
                _copy(self.root / name, dest / name)
        model = dest / "models" / "model.pt"
        _link(weights, model)
        for name in CONFIGS:
            path = self.root / "configs" / f"{name}.json"
            if path.is_file():
                config = json.loads(path.read_text(encoding="utf-8"))
                write_json(self._resolved(config, name, dest, network), dest / "configs" / f"{name}.json")
        shutil.copyfile(dest / "configs" / "train.json", dest / "train.json")
        described = self._described(json.loads(metadata.read_text(encoding="utf-8")), model, results)
        for path in (dest / "metadata.json", dest / "configs" / "metadata.json"):
            write_json(described, path)
        title = described.get("name", dest.name)
        card = f"# {title}: a training run\n\nOf the bundle `{self.root.name}`; `results.json` has the details.\n"
        with written_whole(dest / "docs" / "README.md", ".md") as temporary:
            temporary.write_text(card, encoding="utf-8")

    def _resolved(self, config: dict[str, Any], name: str, dest: Path, network: nn.Module) -> dict[str, Any]:
        arguments = getattr(network, "arguments", None)
        if "network_def" in config and arguments is not None:
            kept = {"_target_": f"{type(network).__module__}.{type(network).__name__}"}
            if name == "train":  # where --network_name and --recurrences can still be given
                kept = {key: config["network_def"][key] for key in ("_target_", "recurrences")}
                config |= {"network_name": type(network).__name__, "recurrences": arguments["recurrences"]}
            config["network_def"] = {**arguments, **kept}
        for key, value in self.settings.items():
            _replace(config, key, value)
        if "dataset_dir" in config:
            config["dataset_dir"] = str(Path(self.dataset_dir).absolute())
        return with_fallback(config, dest.resolve().as_posix())

    def _described(self, metadata: dict[str, Any], model: Path, results: Mapping[str, Any]) -> dict[str, Any]:
        licence = "that of the data it was trained on, see results.json"
        return {
            **metadata,
            "weights": {"file": "models/model.pt", "sha256": sha256(model), "licence": licence},
            "training": {"bundle": self.root.name, "dataset_dir": str(Path(self.dataset_dir).absolute()), **results},
        }


def _replace(config: dict[str, Any], key: str, value: Any) -> None:
    """Give an entry another value, if there is such an entry."""
    *outer, name = key.split("#")
    for part in outer:
        config = config.get(part, {})
        if not isinstance(config, dict):  # a reference to another entry, which is replaced itself
            return
    if name in config:
        config[name] = value


def _link(source: Path, dest: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    temporary = temporary_name(dest)
    try:
        temporary.hardlink_to(source)
        temporary.replace(dest)
    except OSError:
        _copy(source, dest)
    finally:
        temporary.unlink(missing_ok=True)  # replacing a link to the same file leaves both


def _copy(source: Path, dest: Path) -> None:
    with written_whole(dest, ".tmp") as temporary:
        shutil.copyfile(source, temporary)
