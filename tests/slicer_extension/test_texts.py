"""Every text that the module shows can be translated."""

from __future__ import annotations

import ast
import time
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "slicer_extension" / "R2UNet"
SHOW = {"Problem", "setText", "setToolTip", "say", "complain", "_give_up", "confirmYesNoDisplay"}


def test_no_text_is_shown_without_having_been_translated():
    for path in MODULE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for argument in node.args if name in SHOW else []:
                    constant = isinstance(argument, ast.Constant) and argument.value
                    is_text = constant or isinstance(argument, ast.JoinedStr)
                    assert not is_text, (path.name, node.lineno)


def test_the_panel_speaks_the_users_language(panel, app, open_panel, wait, load, monkeypatch):
    monkeypatch.setattr(app, "translation", "<{}>".format)
    other = open_panel()
    ui = other.ui
    wait(lambda: other.logic.bundles)
    other.parameters.bundle = "lung"
    assert ui.statusLabel.text == ui.segmentButton.toolTip == "<Choose the volume to segment.>"
    assert ui.deviceComboBox.itemText(0) == "<Automatic>"
    assert ui.packageStateLabel.text == "<R2U-Net 0.1.0 is installed.>"
    assert "&lt;Intended use&gt;" in ui.bundleDescriptionLabel.text
    other.parameters.inputVolume = load("axial").node
    assert ui.statusLabel.text == "<Ready.>"
    shown = set()
    ui.segmentButton.click()
    while other.logic.busy:
        shown |= {ui.statusLabel.text, ui.segmentButton.text, ui.segmentButton.toolTip}
        app.processEvents()
        time.sleep(0.002)
    shown |= {ui.statusLabel.text, ui.segmentButton.text}
    assert {"<Cancel>", "<Segment>", "<Starting ...>", "<Stop; nothing changes.>"} <= shown
    assert all(text.startswith("<") and text.endswith(">") for text in shown), shown
    other.cleanup()
    other.parent.close()


def test_diagnostics_tell_what_helpers_ask_for(panel, app, wait, load):
    ct = load("axial")
    ct.node.SetName("Smith^John")
    panel.logic.process(ct.node, "lung", waitForCompletion=True)
    panel.ui.copyDiagnosticsButton.click()
    text = app.clipboard().text()
    assert "Worker: version 0.1.0" in text
    assert "Device: cpu" in text
    assert "Bundle: lung 0.1.0, weights present" in text
    assert "Bundle: empty 0.1.0, weights missing" in text
    assert "In Slicer's Python: torch " in text
    assert "Done in " in text
    assert "Smith" not in text
