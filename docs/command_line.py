"""Write the reference of the command line, `docs/reference/command_line.md`, from the program's own parser.

    python docs/command_line.py

What is written stands between `<!-- verbs -->` and `<!-- end -->`; a test compares it with the parser.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from monai_r2unet.apps.cli.main import parser as program

PAGE = Path(__file__).with_name("reference") / "command_line.md"
BLOCK = re.compile(r"(<!-- verbs -->\n).*(<!-- end -->)", re.DOTALL)


def fill(text: str) -> str:
    """`text` with the block of verbs made anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{verbs()}\n{match[2]}", text)


def verbs() -> str:
    """A section for each verb, in the order of `monai-r2unet --help`."""
    return "\n".join(section(words, what, parser) for words, what, parser in found(program(), ()))


def found(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The verbs below `parser`, each with its words and what it does; of one with verbs of its own, only these."""
    for group in (action for action in parser._actions if isinstance(action, argparse._SubParsersAction)):
        for choice in group._choices_actions:
            verb, path = group.choices[choice.dest], (*words, choice.dest)
            below = list(found(verb, path))
            yield from below or [(" ".join(path), choice.help or "", verb)]


def section(words: str, what: str, parser: argparse.ArgumentParser) -> str:
    """A verb: what it does, how it is called, and its arguments as a table."""
    arguments = [action for action in parser._actions if action.dest != "help"]
    rows = [f"| {spelling(action)} | {cell(action.help or '')} |" for action in arguments]
    call = [f"monai-r2unet {words}", *(usage(action) for action in arguments if action.required)]
    optional = " [options]" if any(not action.required for action in arguments) else ""
    lines = [f"## {words}", "", f"{what[:1].upper()}{what[1:]}.", "", "```", " ".join(call) + optional, "```", ""]
    if rows:
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def usage(action: argparse.Action) -> str:
    """A required argument as it is typed."""
    return f"{action.option_strings[0]} {value(action)}" if action.option_strings else value(action)


def spelling(action: argparse.Action) -> str:
    """How an argument is written, the name of its value included; a bar in that would end the table's cell."""
    values = value(action).split("|") if action.nargs != 0 else [""]
    options = action.option_strings or [""]
    return ", ".join(f"`{f'{option} {name}'.strip()}`" for option in options for name in values)


def value(action: argparse.Action) -> str:
    """The name of an argument's value."""
    name = action.metavar or action.dest.upper()
    return f"{name} ..." if action.nargs == "+" else str(name)


def cell(text: str) -> str:
    """Text for a table's cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
