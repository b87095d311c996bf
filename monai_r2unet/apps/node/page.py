"""The page of what is under way, as HTML and as JSON, for those who have the token."""

from __future__ import annotations

import contextlib
import hmac
import html
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from monai_r2unet import __version__
from monai_r2unet.apps.node.arrivals import CUT
from monai_r2unet.apps.node.settings import Page
from monai_r2unet.apps.node.spool import RECORD, SERIES, Spool, keys, names_in, read_record
from monai_r2unet.errors import InputError
from monai_r2unet.files import written_whole

__all__ = ["serve_page", "state_of", "token_of"]

SHOWN = 50  # series of each kind
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>DICOM node</title>
<style>body{{font:15px sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em 1em .2em 0}}</style></head><body>
<h1>DICOM node {ae_title}</h1><p>{counts}</p>
<h2>Under way</h2>{under_way}<h2>Latest</h2>{latest}
<p>monai-r2unet {version}. For research, not for diagnosis.</p></body></html>
"""


def token_of(spool: Spool) -> str:
    """The token of a spool's page, which only this user can read; it stays the same."""
    path = spool.folder / "token"
    if not path.exists():
        with written_whole(path, ".tmp") as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_urlsafe(32), encoding="ascii")
    return path.read_text(encoding="ascii")


def serve_page(page: Page, token: str, state: Callable[[], dict[str, Any]]) -> str:
    """Serve the page in a thread of its own; returns its address, with the token.

    Args:
        page: Where to listen.
        token: What a request must have as ``?token=`` or as bearer.
        state: Returns what to show, as `state_of`.

    Raises:
        InputError: the address is taken, or is not this machine's.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            given = given or parse_qs(address.query).get("token", [""])[0]
            if not hmac.compare_digest(given.encode(), token.encode()):
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", "The token is missing or wrong.\n")
            elif address.path == "/":
                self._answer(HTTPStatus.OK, "text/html", _as_html(state()))
            elif address.path == "/status.json":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(state(), indent=2) + "\n")
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "There are / and /status.json.\n")

        def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            content = text.encode("utf-8")
            self.send_response(status)
            for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet: addresses hold the token."""

    try:
        server = ThreadingHTTPServer((page.host, page.port), Handler)
    except OSError as error:
        raise InputError(
            f"the page cannot be served on {page.host}:{page.port} ({error.strerror}): choose another host or port in "
            "the settings"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{page.host}:{server.server_port}/?token={token}"


def state_of(ae_title: str, spool: Spool, working: Mapping[str, Any]) -> dict[str, Any]:
    """What is under way, and what became of the latest series.

    Args:
        ae_title: The node's title.
        spool: The series.
        working: Key of the one that is being segmented, and its progress; empty if there is none.
    """
    parts = {"receiving": spool.incoming, "waiting": spool.waiting, "sending": spool.sending}
    folders = {state: keys(part) for state, part in parts.items()}
    records = sorted(_files(spool.records), reverse=True)
    latest = [{"key": path.stem, **read_record(path)} for _, path in records[:SHOWN]]
    for record in latest:
        record.pop("instances", None)
    under_way = [_entry(state, folder, working) for state in folders for folder in folders[state][:SHOWN]]
    return {
        "ae_title": ae_title,
        "version": __version__,
        "time": time.time(),
        "counts": {**{state: len(found) for state, found in folders.items()}, "recorded": len(records)},
        "under_way": under_way,
        "latest": latest,
    }


def _entry(state: str, folder: Path, working: Mapping[str, Any]) -> dict[str, Any]:
    """A series that is under way; its folder may be passed on meanwhile, which the next look will show."""
    entry: dict[str, Any] = {"key": folder.name, "state": state}
    if state == "sending":
        record = read_record(folder / RECORD)
        return entry | {name: record.get(name) for name in ("series", "slices", "voxels")}
    with contextlib.suppress(FileNotFoundError):
        entry["series"] = (folder / SERIES).read_text(encoding="utf-8")
    entry["slices"] = len(names_in(folder))
    if folder.name == working.get("key"):
        entry |= {"state": "segmenting", "done": working["done"], "total": working["total"]}
    if (folder / CUT).exists():
        entry["state"] = "cut off"
    return entry


def _files(folder: Path) -> Iterator[tuple[float, Path]]:
    """The records, each with the time of its last change."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            yield path.stat().st_mtime, path


def _as_html(state: Mapping[str, Any]) -> str:
    """The state as a page that reloads itself."""
    counts = ", ".join(f"{count} {what}" for what, count in state["counts"].items())
    under_way = ("state", "series", "slices", "done", "total")
    latest = ("state", "series", "slices", "bundle", "output", "voxels", "message", "warnings", "patient")
    return HTML.format(
        ae_title=html.escape(state["ae_title"]),
        version=state["version"],
        counts=counts,
        under_way=_table(under_way, state["under_way"]),
        latest=_table(latest, state["latest"]),
    )


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>none</p>"
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(row.get(column)))}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>{cells}</table>"


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
