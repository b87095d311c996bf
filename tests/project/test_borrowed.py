"""Private names of other packages are used in one module alone, which says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from monai_r2unet._borrowed import cpu_has_bfloat16

OWN = ("self", "cls", "super()")
DOCUMENTED = ("os._exit",)
OF_NAMED_TUPLES = ("_asdict", "_replace")  # documented, with an underscore so as not to clash with fields


def test_private_names_of_others_stand_in_one_module(repository: Path) -> None:
    package = repository / "monai_r2unet"
    found = {path.relative_to(package).as_posix(): list(private_names(path)) for path in package.rglob("*.py")}
    assert found.pop("_borrowed.py")  # what the test looks for is found where it is
    assert {path: names for path, names in found.items() if names} == {}


def test_the_processor_has_bfloat16_or_not() -> None:
    assert isinstance(cpu_has_bfloat16(), bool)


def private_names(path: Path) -> Iterator[str]:
    """Attributes and imports whose names begin with one underscore, but those of the module's own objects."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) not in OWN:
            name = ast.unparse(node)
            if name not in DOCUMENTED and node.attr not in OF_NAMED_TUPLES:
                yield name
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("monai_r2unet"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from filter(is_private, names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
