"""The part of the panel in which the user installs R2U-Net, or chooses an existing installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .problem import Problem
from .processes import LineProcess
from .pythons import PACKAGE, installed_version, other_python, set_other_python, slicer_python

INSTALLER = Path(__file__).with_name("install_packages.py")


class SetupSection:
    """Shows the installed version, and installs.

    Args:
        ui: The panel's widgets.
        on_text: Called with each line for the log.
        on_changed: Called when the worker has to be restarted.
    """

    def __init__(self, ui: Any, on_text: Callable[[str], None], on_changed: Callable[[], None]) -> None:
        self.ui = ui
        self.on_text = on_text
        self.on_changed = on_changed
        self.installer = LineProcess(on_text, on_text, self._installed)
        ui.pythonPathLineEdit.currentPath = other_python()
        (ui.otherPythonRadioButton if other_python() else ui.slicerPythonRadioButton).setChecked(True)
        ui.slicerPythonRadioButton.connect("toggled(bool)", self._python_chosen)
        ui.pythonPathLineEdit.connect("currentPathChanged(QString)", self._python_chosen)
        ui.installButton.connect("clicked(bool)", lambda checked=False: self._install(None))
        ui.installFileButton.connect("clicked(bool)", self._install_file)
        ui.wheelPathLineEdit.connect("currentPathChanged(QString)", lambda path: self.show())
        self.show()

    def show(self, version: str | None = None) -> None:
        """Show the installed version.

        Args:
            version: Version of the package as reported by a running worker.
        """
        own = not other_python()
        if own and version is None:
            version = installed_version(PACKAGE)
        if self.installer.running:
            text = _("Installing: see the log ...")
        elif version is not None:
            text = _("R2U-Net {version} is installed.").format(version=version)
        elif own:
            text = _("R2U-Net is not installed yet.")
        else:
            text = _("R2U-Net must be installed in that Python by its owner: pip install {name}").format(name=PACKAGE)
        self.ui.packageStateLabel.setText(text)
        self.ui.pythonPathLineEdit.setEnabled(self.ui.otherPythonRadioButton.checked)
        may_install = own and not self.installer.running
        self.ui.installButton.setEnabled(may_install)
        self.ui.wheelPathLineEdit.setEnabled(may_install)
        self.ui.installFileButton.setEnabled(may_install and bool(self.ui.wheelPathLineEdit.currentPath))

    def close(self) -> None:
        """Stop a running installation."""
        self.installer.kill()
        self.installer.wait(4000)

    def _python_chosen(self, _value: Any = None) -> None:
        other = self.ui.pythonPathLineEdit.currentPath if self.ui.otherPythonRadioButton.checked else ""
        changed = other != other_python() and (not other or Path(other).is_file())
        if changed:
            set_other_python(other)
        self.show()
        if changed:
            self.on_changed()

    def _install_file(self, _checked: bool = False) -> None:
        self._install(Path(self.ui.wheelPathLineEdit.currentPath))

    def _install(self, wheel: Path | None) -> None:
        try:
            if wheel is not None and not (wheel.is_file() and wheel.suffix == ".whl"):
                raise Problem(_("{path} is not a wheel, which is a file that ends with .whl.").format(path=wheel))
            python = slicer_python()
            _ensure_torch()
        except Problem as problem:
            self.ui.packageStateLabel.setText(str(problem))
            return
        what = [f"{PACKAGE}[train]"] if wheel is None else [str(wheel), "--from-folder", str(wheel.parent)]
        self.installer.start(python.program, [str(INSTALLER), *what], python.environment)
        self.show()

    def _installed(self, code: int | None) -> None:
        self.show()
        if code != 0:
            self.ui.packageStateLabel.setText(_("The installation failed: the log says why."))
        else:
            self.on_changed()


def _ensure_torch() -> None:
    """Have Slicer's PyTorch extension install PyTorch.

    Raises:
        Problem: if the extension is missing or fails.
    """
    if installed_version("torch") is not None:
        return
    try:
        import PyTorchUtils
    except ImportError as error:
        raise Problem(
            _("Install the extension 'PyTorch' first: open the Extensions Manager, look for it, restart Slicer.")
        ) from error
    problem = _("PyTorch was not installed, and R2U-Net needs it: the log of Slicer says why.")
    try:
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True)
    except Exception as error:  # any error of pip
        raise Problem(problem) from error
    if torch is None:
        raise Problem(problem)
