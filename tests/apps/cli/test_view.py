"""The verb ``view`` where the viewer cannot run; where it can, tests/viewer tries it."""

from __future__ import annotations

from monai_r2unet.apps.cli.main import main
from monai_r2unet.inference.startup import hidden_modules


def test_without_its_extra_it_says_how_to_get_it(capsys):
    with hidden_modules("trame_slicer", "slicer"):
        assert main(["view"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert 'pip install "monai-r2unet[viewer]"' in told.err
