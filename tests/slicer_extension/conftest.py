"""What the tests of the Slicer extension share; without slicer-core and PySide6 they are skipped, and say so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]

MISSING = [name for name in ("slicer", "PySide6") if importlib.util.find_spec(name) is None]

if not MISSING:
    from tests.slicer_extension import headless


@pytest.fixture(scope="session")
def app() -> Any:
    """The stand-in for ``slicer.app``."""
    if MISSING:
        pytest.skip(f"the Slicer extension is not tested, {' and '.join(MISSING)} missing: see make test-slicer")
    return headless.app


@pytest.fixture(scope="session")
def workbench(app: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles and images; see workbench.py."""
    folder = tmp_path_factory.mktemp("workbench")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    script = Path(__file__).with_name("workbench.py")
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True)
    return folder


@pytest.fixture(scope="session")
def wait(app: Any) -> Callable[..., None]:
    """Let Qt work until a condition holds."""

    def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
        import time

        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            app.processEvents()
            time.sleep(0.005)

    return wait_until


@pytest.fixture(scope="session")
def open_panel(app: Any) -> Callable[[], Any]:
    """Open the module's panel as Slicer does."""

    def panel() -> Any:
        import qt
        import slicer

        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        widget = headless.R2UNet.R2UNetWidget(parent)
        widget.setup()
        parent.show()
        widget.enter()
        return widget

    return panel


@pytest.fixture(scope="module")
def opened(app: Any, workbench: Path, open_panel: Callable[[], Any], wait: Callable[..., None]) -> Iterator[Any]:
    """A panel whose worker knows the workbench's bundles and is ready."""
    from R2UNetLib.pythons import set_other_python

    set_other_python(str(workbench / "worker"))
    widget = open_panel()
    wait(lambda: widget.logic.bundles or widget.logic.runner.worker_problem)
    assert widget.logic.bundles, widget.ui.logTextEdit.plainText
    yield widget
    widget.cleanup()
    assert not widget.logic.runner.client.running
    set_other_python("")


@pytest.fixture
def panel(opened: Any, app: Any, wait: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same, with an empty scene; afterwards nothing is running, no file is left, and no slot has failed."""
    import slicer

    errors: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))  # Qt's slots end there
    slicer.mrmlScene.Clear(0)
    app.questions.clear()
    app.answer = True
    opened.parameters.bundle = "lung"
    yield opened
    wait(lambda: not opened.logic.busy)
    assert not errors
    assert not list(Path(app.temporaryPath).glob("R2UNet-*"))


@pytest.fixture
def load(app: Any, workbench: Path) -> Callable[[str], Any]:
    """Load an image of the workbench as a volume, and its masks: (K, J, I), 0 and 1.

    ``expected`` is that of the volume; ``uncleaned``, of a chest CT, that of its slices one by one.
    """

    def load_mask(path: Path) -> Any:
        import slicer

        # Slicer turns left-handed files round as it loads them: the mask as well as the image.
        node = slicer.util.loadVolume(str(path))
        mask = slicer.util.arrayFromVolume(node).copy()
        slicer.mrmlScene.RemoveNode(node)
        return mask

    def load_volume(name: str) -> SimpleNamespace:
        import slicer

        path = workbench / "images" / f"{name}.nrrd"
        expected = load_mask(path.with_suffix(".expected.nrrd"))
        uncleaned = path.with_suffix(".uncleaned.nrrd")
        if name in ("picture", "fundus", "cropped"):
            storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
            storage.SetFileName(str(path))
            volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", name)
            assert storage.ReadData(volume)
        else:
            volume = slicer.util.loadVolume(str(path))
        return SimpleNamespace(
            node=volume, expected=expected, uncleaned=load_mask(uncleaned) if uncleaned.exists() else None
        )

    return load_volume


@pytest.fixture(scope="session")
def mask_of(app: Any) -> Callable[..., Any]:
    """The voxels of a segment on the grid of a volume: (K, J, I), 0 and 1."""

    def mask(segmentation: Any, volume: Any, index: int = 0) -> Any:
        import slicer

        segment_id = segmentation.GetSegmentation().GetNthSegmentID(index)
        return (slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume) > 0).astype("uint8")

    return mask
