"""An instance metadata service on loopback (IMDSv2: nothing without a token)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Metadata:
    """An instance metadata service (IMDSv2: nothing without a token)."""

    def __init__(self, instance_id: str, user_data: str) -> None:
        self.instance_id = instance_id
        self.user_data = user_data
        self.silent = False


@contextlib.contextmanager
def serving(metadata: Metadata) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._say(200, "token-1")

        def do_GET(self) -> None:
            answers = {"/latest/meta-data/instance-id": metadata.instance_id, "/latest/user-data": metadata.user_data}
            known = self.headers.get("x-aws-ec2-metadata-token") == "token-1"
            self._say(200 if known else 401, answers.get(self.path, "") if known else "")

        def _say(self, status: int, text: str) -> None:
            self.send_response(503 if metadata.silent else status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
