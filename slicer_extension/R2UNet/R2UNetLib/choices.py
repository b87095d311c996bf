"""The lists of bundles and devices, which are known only once the worker has reported them."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from .texts import describe_device


class Choices:
    """Keeps both lists in step with their parameters; Slicer's own connection only supports fixed lists.

    Args:
        ui: The panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self.bundles = ui.bundleComboBox
        self.devices = ui.deviceComboBox
        self.parameters: Any = None  # may be None, while a scene is closed
        self.bundles.connect("currentIndexChanged(int)", self._bundle_chosen)
        self.devices.connect("currentIndexChanged(int)", self._device_chosen)

    def offer(self, bundles: list[dict[str, Any]], devices: list[dict[str, Any]]) -> None:
        """List the available entries, and choose a usable bundle if none was chosen yet."""
        _fill(self.bundles, [(bundle["title"], bundle["name"]) for bundle in bundles])
        _fill(
            self.devices, [(_("Automatic"), "auto"), *((describe_device(device), device["id"]) for device in devices)]
        )
        if self.parameters is not None and bundles and not self.parameters.bundle:
            usable = [bundle for bundle in bundles if bundle["weights"] == "present"]
            self.parameters.bundle = (usable or bundles)[0]["name"]
        self.show()

    def show(self) -> None:
        """Show the current choices."""
        if self.parameters is None:
            return
        device = self.parameters.device
        if self.devices.findData(device) < 0:  # the scene comes from another computer, or the worker is not ready yet
            self.devices.addItem(_("{device} (not found here)").format(device=device), device)
        for box, value in ((self.bundles, self.parameters.bundle), (self.devices, device)):
            blocked = box.blockSignals(True)
            box.setCurrentIndex(box.findData(value))
            box.blockSignals(blocked)

    def _bundle_chosen(self, index: int) -> None:
        if self.parameters is not None and index >= 0:
            self.parameters.bundle = self.bundles.itemData(index)

    def _device_chosen(self, index: int) -> None:
        if self.parameters is not None and index >= 0:
            self.parameters.device = self.devices.itemData(index)


def _fill(box: Any, items: list[tuple[str, str]]) -> None:
    blocked = box.blockSignals(True)
    box.clear()
    for text, data in items:
        box.addItem(text, data)
    box.blockSignals(blocked)
