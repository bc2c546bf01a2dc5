"""Objects behind plain URLs: a real HTTP server that keeps connections, answers ranges, and can break off."""

from __future__ import annotations

import contextlib
import threading
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bucket(ThreadingHTTPServer):
    """`connections` counts those that were made."""

    daemon_threads = True

    def __init__(self, objects: Mapping[str, bytes], cut: Collection[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects, self.cut = objects, cut
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request, client_address):  # type: ignore[no-untyped-def]
        self.connections += 1
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_GET(self) -> None:
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path[1:])
        data = self.server.objects.get(name)
        if data is None:
            return self._send(403, b"no such signature", 17)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        data = data[start:]
        half = len(data) // 2 if name in self.server.cut else len(data)
        self.close_connection = half < len(data)
        return self._send(206 if start else 200, data[:half], len(data))

    def _send(self, status: int, data: bytes, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def bucket(objects: Mapping[str, bytes], cut: Collection[str] = ()) -> Iterator[Bucket]:
    with Bucket(objects, cut) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()
