"""What the site adds to MkDocs: pages that live outside `docs/`, and links that leave it.

All Markdown is written to be read in the repository, so its links are relative to its own file. The site takes in some
files from elsewhere, such as the bundles' model cards; links to these lead to their pages. Links to any other file of
the repository lead to its host. A link to a file that does not exist is a warning, which fails a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.outside")
ROOT = Path(__file__).resolve().parents[1]

BUNDLES = ("lung", "drive", "stare", "chase_db1", "skin")
OUTSIDE = {  # file in the repository: page of the site
    **{f"bundles/{name}/docs/README.md": f"reference/bundles/{name}.md" for name in BUNDLES},
    "slicer_extension/README.md": "how-to/slicer.md",
    "CHANGELOG.md": "reference/changes.md",
    "CONTRIBUTING.md": "explanation/contributing.md",
}
SCREENSHOTS = "slicer_extension/Screenshots"

FENCE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )([^)#\s]+)", re.MULTILINE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside `docs/`."""
    pictures = {
        f"{SCREENSHOTS}/{path.name}": f"figures/slicer/{path.name}" for path in (ROOT / SCREENSHOTS).glob("*.png")
    }
    for source, page in {**OUTSIDE, **pictures}.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
        SITE[source] = page
    return files


SITE: dict[str, str] = {}  # what the site holds from outside `docs/`


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Point links that leave `docs/`, and all links of pages from outside, to where their targets are on the site."""
    here = page.file.src_uri
    source = next((path for path, uri in SITE.items() if uri == here), f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        return match[1] + target(match[2])

    def target(link: str) -> str:
        if re.match(r"\w+:", link):
            return link
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which does not exist", source, path)
        if path.startswith("docs/") or path in SITE:
            return posixpath.relpath(SITE.get(path, path.removeprefix("docs/")), posixpath.dirname(here))
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.extra['repository']}/{kind}/main/{path}"

    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))
