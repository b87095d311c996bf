"""The viewer as a process of its own, and requests to it without a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

REPOSITORY = Path(__file__).resolve().parents[3]

# As the verb `view`, with another worker and a limit that a test can reach.
SERVE = """
import asyncio, sys
from pathlib import Path
from monai_r2unet.apps.cli.view import announce, until_stopped
from monai_r2unet.apps.viewer.folder import Folder
from monai_r2unet.apps.viewer.server import Options, serve
folder, image, worker, limit, *bundles = sys.argv[1:]
options = Options(
    Folder(Path(folder)),
    Path(image) if image else None,
    upload_limit=int(limit),
    worker=[worker],
    bundles={Path(bundle): True for bundle in bundles},
)
try:
    asyncio.run(until_stopped(serve(options, announce)))
except asyncio.CancelledError:
    pass
"""


class Viewer:
    """A running viewer.

    Args:
        command: that starts it and prints its address.
        temporary: folder for temporary files; its own where None.
    """

    def __init__(self, command: list[str], temporary: Path | None = None) -> None:
        self.command = command
        self.own = tempfile.TemporaryDirectory(prefix="viewer-test-")
        self.temporary = temporary or Path(self.own.name)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        parts = urlsplit(self.address)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.token = parse_qs(parts.query)["token"][0]

    @classmethod
    def of_command_line(cls, *arguments: str) -> Viewer:
        """``monai-r2unet view``."""
        return cls([sys.executable, "-m", "monai_r2unet", "view", *arguments])

    @classmethod
    def with_worker(
        cls, worker: Path, folder: Path, image: Path | None = None, limit: int = 10**8, bundles: Sequence[Path] = ()
    ) -> Viewer:
        """With a worker that knows other bundles, and folders of trusted ones."""
        parts = [folder, image or "", worker, limit, *bundles]
        return cls([sys.executable, "-c", SERVE, *map(str, parts)])

    def request(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of an answer."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        connection.request(method, path, body=body or None, headers=headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.read().decode("utf-8", "replace"), dict(answer.getheaders())
        connection.close()
        return found

    def websocket(self, path: str = "/ws", headers: dict[str, str] | None = None) -> int:
        """Status of the answer to a websocket's first request: 101 lets it in."""
        wanted = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        connection = HTTPConnection(self.host, self.port, timeout=60)
        connection.request("GET", path, headers={**wanted, **(headers or {})})
        status = connection.getresponse().status
        connection.close()
        return status

    def left_behind(self) -> list[Path]:
        """Folders of viewers among the temporary files."""
        return sorted(self.temporary.glob("monai-r2unet-view-*"))

    def stop(self) -> int:
        """End it as a terminal does that is closed; returns its exit code."""
        self.process.terminate()
        code = self.process.wait(30)
        return code

    def close(self) -> None:
        """End it, whatever the test did to it."""
        if self.process.poll() is None:
            self.stop()
        self.own.cleanup()
