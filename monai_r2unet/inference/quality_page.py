"""A page that shows every case of a cohort, the most doubtful first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from monai_r2unet.files import written_whole

__all__ = ["PAGE", "PageEntry", "write_quality_page"]

PAGE = "index.html"
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 108rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
.case { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: 1rem 0; }
.case img { display: block; max-width: 100%; height: auto; margin: .5rem 0; background: black; }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-variant-numeric: tabular-nums; }
.warning { margin: .3rem 0; padding: .3rem .6rem; border-left: 4px solid #d98200; }
.failed { border-left-color: #d02020; }
"""


@dataclass(frozen=True)
class PageEntry:
    """A case on the page.

    Args:
        name: Name of the case.
        picture: File name of its picture, beside the page; ``None`` if there is none.
        doubt: Disagreement score from 0 to 1; ``None`` if the case failed.
        facts: What was measured: name and value with unit.
        warnings: Sentences about what may make the mask wrong.
        failure: Why the case failed; empty if it did not.
    """

    name: str
    picture: str | None = None
    doubt: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    failure: str = ""


def write_quality_page(title: str, entries: Sequence[PageEntry], folder: Path) -> None:
    """Write ``index.html`` atomically into a folder that holds the pictures.

    Failed cases come first, then the others in decreasing order of doubt. The page refers to nothing but its pictures,
    so that it can be read without a network, and moved with its folder.

    Args:
        title: The page's title.
        entries: The cases in any order.
        folder: Folder of the page.
    """
    ordered = sorted(entries, key=lambda entry: (-2.0 if entry.doubt is None else -entry.doubt, entry.name))
    failed = sum(bool(entry.failure) for entry in entries)
    summary = f"{len(entries)} cases, the most doubtful first" + (f"; {failed} failed" if failed else "")
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{summary}.</p>\n" + "\n".join(map(_section, ordered)) + "\n</body>\n</html>\n"
    )
    with written_whole(folder / PAGE, ".html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _section(entry: PageEntry) -> str:
    facts = dict(entry.facts) if entry.doubt is None else {"Doubt": f"{entry.doubt:.3f}", **entry.facts}
    lines = ['<section class="case">', f"<h2>{escape(entry.name)}</h2>"]
    if entry.failure:
        lines.append(f'<p class="warning failed">Failed: {escape(entry.failure)}</p>')
    if entry.picture is not None:
        lines.append(f'<img src="{quote(entry.picture)}" alt="Outlines of the mask of {escape(entry.name)}">')
    if facts:
        shown = "".join(f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in facts.items())
        lines.append(f'<div class="facts">{shown}</div>')
    lines += [f'<p class="warning">{escape(warning)}</p>' for warning in entry.warnings]
    return "\n".join([*lines, "</section>"])
