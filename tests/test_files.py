"""Result files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from monai_r2unet.files import write_json


def test_measures_that_do_not_exist_are_null_and_not_nan(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json({"dice": math.nan, "all": [1.5, np.float64(math.inf)], "validation": {"auc": math.nan, "n": 3}}, path)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"dice": None, "all": [1.5, None], "validation": {"auc": None, "n": 3}}
