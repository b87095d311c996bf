"""The bundles to choose from: the shipped ones, and folders that were added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_r2unet.errors import InputError

__all__ = ["Catalogue"]


class Catalogue:
    """Lists bundles, which only the worker reads.

    Args:
        send: Sends a command to the worker.
        added: Folders of bundles that are not shipped, and whether the user trusts the author of each.
    """

    def __init__(self, send: Callable[..., None], added: Mapping[Path, bool]) -> None:
        self.send = send
        self.added = {str(folder): trusted for folder, trusted in added.items()}
        self.bundles: dict[str, dict[str, Any]] = {}  # the worker's description of each, by its name
        self.questions: dict[str, tuple[str, bool]] = {}  # folder to be described, and whether to choose it then

    def begin(self, shipped: list[dict[str, Any]]) -> None:
        """Start with the bundles of a new worker, and ask it for the added ones."""
        self.bundles = {bundle["name"]: bundle for bundle in shipped}
        self.questions.clear()
        for folder in self.added:
            self.ask(folder, chosen=False)

    def ask(self, folder: str, *, chosen: bool) -> None:
        """Ask the worker to describe the bundle in a folder.

        Args:
            folder: The folder.
            chosen: The bundle is chosen if it can be added.
        """
        job = f"bundle {len(self.questions) + 1}"
        self.questions[job] = (folder, chosen)
        self.send("describe", job=job, bundle=folder)

    def answers(self, event: dict[str, Any]) -> bool:
        """Whether an event of the worker answers `ask`."""
        return event["event"] in ("bundle", "error") and str(event["job"]) in self.questions

    def take(self, event: dict[str, Any]) -> str | None:
        """Add the described bundle; returns its name if it is to be chosen.

        Raises:
            InputError: if it cannot be added.
        """
        folder, chosen = self.questions[str(event["job"])]
        if event["event"] == "error":
            raise InputError(event["message"])
        if event["unsafe"] is not None and not self.is_trusted(folder):
            raise InputError(
                f"The bundle {folder} can execute any code on this computer (it has {event['unsafe']}). If you trust "
                f"its author, start the viewer with --bundle {folder} --trust-bundle."
            )
        self.bundles[event["name"]] = event
        self.added.setdefault(folder, False)
        return str(event["name"]) if chosen else None

    def is_trusted(self, name: str) -> bool:
        """Whether the user trusts the author of an added bundle."""
        return self.added.get(name, False)
