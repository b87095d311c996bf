"""The bundles to choose from: those that come with R2U-Net, and folders that the user has added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from .archives import unpack

SETTING = "R2UNet/Bundles"  # application setting, not part of the scene: folder -> whether the user trusts its author


@dataclass(frozen=True)
class Answer:
    """The worker's answer to `Catalogue.add`.

    Args:
        state: ``added``, ``refused``, or ``unsafe``: it can be added if the user trusts its author.
        folder: The bundle's folder.
        message: A sentence for the user.
    """

    state: str
    folder: str
    message: str


@dataclass(frozen=True)
class _Question:
    """A folder that the worker was asked to describe."""

    folder: str
    trusted: bool
    remembered: bool  # from an earlier session, so that nobody waits for the answer


def remembered() -> dict[str, bool]:
    """The added folders, and whether the user trusts the author of each."""
    try:
        stored = json.loads(str(qt.QSettings().value(SETTING, "") or "{}"))
    except ValueError:
        return {}
    return {str(folder): trusted is True for folder, trusted in stored.items()} if isinstance(stored, dict) else {}


class Catalogue:
    """Lists bundles. Only the worker reads them; this class asks it and remembers the user's.

    Args:
        send: Sends a command to the worker.
        on_answer: Called with each answer to `add`.
        on_text: Called with each line for the log.
    """

    def __init__(
        self, send: Callable[..., None], on_answer: Callable[[Answer], None], on_text: Callable[[str], None]
    ) -> None:
        self._send = send
        self._on_answer = on_answer
        self._on_text = on_text
        self._shipped: list[dict[str, Any]] = []
        self._added: dict[str, dict[str, Any]] = {}
        self._questions: dict[str, _Question] = {}
        self._asked = 0
        self._unpacked: set[str] = set()  # folders from zip files, removed if they are not added

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The worker's description of each bundle; each has a different title."""
        bundles = list(self._shipped)
        for bundle in self._added.values():
            taken = any(other["title"] == bundle["title"] for other in bundles)
            bundles.append({**bundle, "title": f"{bundle['title']} ({bundle['name']})"} if taken else bundle)
        return bundles

    def is_added(self, name: str) -> bool:
        """Whether a bundle is one of the user's."""
        return name in self._added

    def is_trusted(self, name: str) -> bool:
        """Whether the user has said that a bundle's author is trusted."""
        return remembered().get(name, False)

    def begin(self, shipped: list[dict[str, Any]]) -> None:
        """Start with the bundles of a new worker, and ask it for the remembered ones."""
        self._shipped = shipped
        for folder, trusted in remembered().items():
            self._ask(_Question(folder, trusted, remembered=True))

    def add(self, path: Path, trusted: bool = False) -> None:
        """Add a bundle, which is also remembered; the worker's answer arrives later.

        Args:
            path: Its folder, or a zip file, which is unpacked in its folder.
            trusted: The user trusts its author.

        Raises:
            Problem: if the zip file cannot be unpacked.
        """
        folder = str(path)
        if path.suffix.lower() == ".zip" and path.is_file():
            folder = str(unpack(path))
            self._unpacked.add(folder)
        self._ask(_Question(folder, trusted, remembered=False))

    def discard(self, folder: str) -> None:
        """Give up a folder that was not added; what was unpacked for it is removed."""
        if folder in self._unpacked:
            self._unpacked.remove(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Take a bundle off the list; its folder stays."""
        if self._added.pop(name, None) is not None:
            _remember({folder: trusted for folder, trusted in remembered().items() if folder != name})

    def take(self, event: dict[str, Any]) -> bool:
        """Take an event of the worker; returns whether it was an answer to this class."""
        question = self._questions.pop(str(event.get("job")), None)
        if question is None:
            return False
        if event["event"] == "error":
            self._refuse(question, event["message"])
        elif event["unsafe"] is not None and not question.trusted:
            self._added.pop(question.folder, None)
            sentence = _("The bundle {folder} can execute any code on this computer (it has {unsafe}).")
            sentence = sentence.format(folder=question.folder, unsafe=event["unsafe"])
            self._answer(question, Answer("unsafe", question.folder, sentence))
        elif any(event["name"] == bundle["name"] for bundle in self._shipped):
            self._refuse(question, _("This bundle comes with R2U-Net, so it is listed already."))
        else:
            self._unpacked.discard(question.folder)
            self._added[event["name"]] = {key: value for key, value in event.items() if key not in ("event", "job")}
            if not question.remembered:
                _remember({**remembered(), event["name"]: question.trusted})
            message = _("Added: {title}.").format(title=event["title"])
            self._answer(question, Answer("added", event["name"], message))
        return True

    def give_up(self, problem: str) -> None:
        """The worker is gone: no answer will come."""
        questions, self._questions = self._questions, {}
        for question in questions.values():
            self._refuse(question, problem)

    def _ask(self, question: _Question) -> None:
        self._asked += 1
        self._questions[f"bundle {self._asked}"] = question
        self._send("describe", job=f"bundle {self._asked}", bundle=question.folder)

    def _refuse(self, question: _Question, message: str) -> None:
        self.discard(question.folder)
        self._added.pop(question.folder, None)
        self._answer(question, Answer("refused", question.folder, message))

    def _answer(self, question: _Question, answer: Answer) -> None:
        if not question.remembered:
            self._on_answer(answer)
        elif answer.state != "added":
            self._on_text(answer.message)


def _remember(folders: dict[str, bool]) -> None:
    qt.QSettings().setValue(SETTING, json.dumps(folders))
