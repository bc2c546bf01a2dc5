"""Where a forge's webhooks are to come, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from provisioner.domain.forge import Delivery


class Receiver:
    """What `came`, as `read` reads it; it answers 500 while it is `down`."""

    def __init__(self, read: Callable[[Mapping[str, str], bytes], Delivery]) -> None:
        self.came: list[Delivery] = []
        self.down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Tests print enough."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not receiver.down:
                    given = {name.lower(): value for name, value in self.headers.items()}
                    receiver.came.append(read(given, body))
                self.send_response(500 if receiver.down else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def states(self) -> list[tuple[str, str]]:
        return [(one.event, one.job.state if one.job else one.facts["action"]) for one in self.came]
