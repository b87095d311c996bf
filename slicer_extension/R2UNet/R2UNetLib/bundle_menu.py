"""The button with which the user adds bundles to the list, and removes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .catalogue import Answer
from .problem import Problem


class BundleMenu:
    """The button's menu.

    Args:
        button: The button.
        logic: Adds and removes the bundles.
        status: Where the panel says what happens.
        choose: Called with the folder of a bundle that was added; empty if the selected one was removed.
    """

    def __init__(self, button: Any, logic: Any, status: Any, choose: Callable[[str], None]) -> None:
        self._logic = logic
        self._status = status
        self._choose = choose
        self._selected = ""
        self.menu = qt.QMenu(button)
        self._action(_("Add a folder ..."), self._choose_folder)
        self._action(_("Add a zip file ..."), self._choose_archive)
        self.remove = self._action(_("Remove from the list"), self._remove)
        button.setMenu(self.menu)

    def show(self, selected: str) -> None:
        """Show whether the selected bundle is one that the user added."""
        self._selected = selected
        self.remove.setEnabled(self._logic.runner.catalogue.is_added(selected))

    def add(self, path: Path) -> None:
        """Add a bundle: its folder, or a zip file."""
        try:
            self._logic.addBundle(path)
        except Problem as problem:
            self._status.complain(str(problem))
        else:
            self._status.say(_("Looking at {path} ...").format(path=path))

    def answered(self, answer: Answer) -> None:
        """Choose the added bundle; or say why it was not added; or ask whether its author is trusted."""
        if answer.state == "unsafe":
            question = _("{sentence} Do you trust its author?").format(sentence=answer.message)
            if slicer.util.confirmYesNoDisplay(question):
                self._logic.addBundle(answer.folder, trusted=True)
                return
            self._logic.discardBundle(answer.folder)
        if answer.state == "added":
            self._choose(answer.folder)
            self._status.say(answer.message)
        else:
            self._status.complain(answer.message)

    def _action(self, text: str, slot: Callable[..., None]) -> Any:
        action = qt.QAction(text, self.menu)
        action.connect("triggered(bool)", slot)
        self.menu.addAction(action)
        return action

    def _choose_folder(self, _checked: bool = False) -> None:
        self._add(qt.QFileDialog.getExistingDirectory(None, _("Folder of a bundle")))

    def _choose_archive(self, _checked: bool = False) -> None:
        self._add(qt.QFileDialog.getOpenFileName(None, _("Zip file with a bundle"), "", "*.zip"))

    def _add(self, path: str) -> None:
        if path:  # empty if the dialog was cancelled
            self.add(Path(path))

    def _remove(self, _checked: bool = False) -> None:
        self._logic.removeBundle(self._selected)
        self._choose("")
