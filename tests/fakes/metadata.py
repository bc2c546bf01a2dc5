"""An instance metadata service (IMDSv2: nothing without a token).

`python -m tests.fakes.metadata FOLDER` serves FOLDER/metadata.json at 169.254.169.254, for a host in a namespace.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any


class Metadata:
    def __init__(self, instance_id: str, user_data: str) -> None:
        self.instance_id = instance_id
        self.user_data = user_data
        self.silent = False
        self.more: dict[str, str] = {}  # by path below /latest/


class _FromFile(Metadata):
    """As FOLDER/metadata.json has it, and as FOLDER/more.json has it now."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "metadata.json").read_text())
        super().__init__(told["instance_id"], told["user_data"])
        self._later = folder / "more.json"

    @property
    def more(self) -> dict[str, str]:
        return dict(json.loads(self._later.read_text())) if self._later.exists() else {}

    @more.setter
    def more(self, value: dict[str, str]) -> None:
        return


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without asking a resolver for a name: there may be none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def _serve(metadata: Metadata, address: tuple[str, int]) -> _Server:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._say(200, "token-1")

        def do_GET(self) -> None:
            answers = {"/latest/meta-data/instance-id": metadata.instance_id, "/latest/user-data": metadata.user_data}
            answers |= {f"/latest/{path}": text for path, text in metadata.more.items()}
            if self.headers.get("x-aws-ec2-metadata-token") != "token-1":
                self._say(401, "")
            elif self.path not in answers:
                self._say(404, "")
            else:
                self._say(200, answers[self.path])

        def _say(self, status: int, text: str) -> None:
            self.send_response(503 if metadata.silent else status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            return

    return _Server(address, Handler)


@contextlib.contextmanager
def serving(metadata: Metadata) -> Iterator[str]:
    """On loopback; its URL."""
    server = _serve(metadata, ("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    _serve(_FromFile(Path(sys.argv[1])), ("169.254.169.254", 80)).serve_forever()
