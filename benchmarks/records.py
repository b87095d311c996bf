"""Location and format of the result files; a study's is JSON lines, one run or training per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_r2unet.files import written_whole

__all__ = ["REPOSITORY", "RESULTS", "add", "read_lines", "write_lines"]

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, in their order; none if the file does not exist."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write records as JSON, one per line.

    Raises:
        ValueError: if a record holds NaN or an infinite number, which JSON does not have.
    """
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records]
    with written_whole(path, ".tmp") as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def add(records: Iterable[Mapping[str, Any]], path: Path, identity: Callable[[Mapping[str, Any]], Hashable]) -> None:
    """Add records to a file; existing ones of the same run are replaced in place.

    Args:
        records: New ones.
        path: File to write.
        identity: Equal for records of the same run.
    """
    kept: dict[Hashable, Mapping[str, Any]] = {identity(record): record for record in read_lines(path)}
    kept.update((identity(record), record) for record in records)
    write_lines(kept.values(), path)
