"""The button with which the user adds bundles to the list, and removes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _


class BundleMenu:
    """The button's menu.

    Args:
        button: The button.
        on_add: Called with the path of a folder or of a zip file.
        on_remove: Called to take the selected bundle off the list.
    """

    def __init__(self, button: Any, on_add: Callable[[Path], None], on_remove: Callable[[], None]) -> None:
        self._on_add = on_add
        self._on_remove = on_remove
        self.menu = qt.QMenu(button)
        self._action(_("Add a folder ..."), self._choose_folder)
        self._action(_("Add a zip file ..."), self._choose_archive)
        self.remove = self._action(_("Remove from the list"), self._remove)
        button.setMenu(self.menu)

    def show(self, removable: bool) -> None:
        """Show whether the selected bundle is one that the user added."""
        self.remove.setEnabled(removable)

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
            self._on_add(Path(path))

    def _remove(self, _checked: bool = False) -> None:
        self._on_remove()
