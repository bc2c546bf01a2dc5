"""A store that says no is told from one that fails: a real HTTP server answers as S3 does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from provisioner.domain.errors import ObjectsError
from provisioner.objects import open_objects

_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class _Saying(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(_DENIED)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(_DENIED)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Saying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    yield
    server.shutdown()
    server.server_close()


async def test_a_store_that_says_no_is_told_from_one_that_fails(refusing: None) -> None:
    with pytest.raises(ObjectsError) as denied:
        await open_objects("s3://team-data").under("set")
    assert denied.value.denied
    assert "s3://team-data says no" in denied.value.message
