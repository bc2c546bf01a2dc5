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
    told = json.loads((Path(sys.argv[1]) / "metadata.json").read_text())
    _serve(Metadata(told["instance_id"], told["user_data"]), ("169.254.169.254", 80)).serve_forever()
