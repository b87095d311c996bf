"""The gate runs every suite."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import SUITES

BY_HAND = {"weights"}  # minutes on the complete test sets, which are not everywhere


def test_the_gate_runs_every_suite(repository: Path) -> None:
    gate = set(re.findall(r"^make (\S+)$", (repository / ".ci" / "run").read_text(), re.MULTILINE))
    makefile = (repository / "Makefile").read_text()
    rules = dict(re.findall(r"^(test\S*):.*\n\t.*pytest -m (\"[^\"]*\"|\S+)", makefile, re.MULTILINE))
    assert {rules[name] for name in rules if name in gate} >= set(SUITES.values()) - BY_HAND
    rest = set(re.findall(r"\w+", rules["test"])) - {"not", "or"}
    assert rest == set(SUITES.values())  # all that `make test` leaves out
