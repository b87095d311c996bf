"""Run one training after another in this process, under torchrun or alone: each start of Python costs seconds.

Arguments: a JSON list of ``[config files, options, file]``. A training with a file is meant to be refused, and the
sentence is written there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from monai_r2unet.errors import find_input_error
from tests.helpers.bundle_runs import workflow

for files, options, file in json.loads(sys.argv[1]):
    try:
        workflow("training", *files, **options).run()
    except RuntimeError as error:
        if file is None:
            raise
        Path(file).write_text(str(find_input_error(error)))
