"""A controller for one machine: a real HTTP server on a Unix socket and on TCP, with real state, and faults on demand.

It keeps what a controller keeps (session, attempts wanted, log bytes, objects, manifests, readings) and answers by the
protocol's own rules, so that tests speak of what arrived, never of what was called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent import wire


@dataclass
class Log:
    """One attempt's log as it arrived. `hold_back`: bytes at the end that are not safe yet."""

    data: bytearray = field(default_factory=bytearray)
    spans: list[wire.LogSpan] = field(default_factory=list)
    hold_back: int = 0
    arrived_at: list[float] = field(default_factory=list)

    @property
    def ack(self) -> wire.LogAck:
        return wire.LogAck(len(self.data), max(0, len(self.data) - self.hold_back))

    def append(self, offset: int, spans: list[wire.LogSpan], data: bytes | memoryview) -> wire.LogAck:
        if offset > len(self.data):
            return self.ack
        fresh = bytes(data)[len(self.data) - offset :]
        if fresh:
            self.data += fresh
            self.spans += spans
            self.arrived_at.append(time.monotonic())
        return self.ack


@dataclass
class Fault:
    """What happens to the next `times` requests whose path contains `path`.

    `lose`: it is worked on, the answer is not sent. `double`: it is worked on twice. `status`: refused with it, before
    anything is done. `delay_s`: worked on at once, answered late.
    """

    path: str
    times: int = 1
    lose: bool = False
    double: bool = False
    status: int = 0
    delay_s: float = 0.0
    skip: int = 0


class Controller:
    """State of one machine's controller. Change it under `changed`, which also wakes a held sync."""

    def __init__(self, token: str = "join-token") -> None:
        self.token = token
        self.changed = threading.Condition()
        self.version = 1
        self.nonces: list[str] = []
        self.wanted: dict[tuple[str, int], wire.AttemptOught] = {}
        self.orders: dict[tuple[str, int], wire.Order] = {}
        self.forgetting = True
        self.end = False
        self.syncs: list[wire.Sync] = []
        self.states: dict[tuple[str, int], wire.AttemptState] = {}
        self.logs: dict[tuple[str, int], Log] = {}
        self.objects: dict[str, bytes] = {}
        self.sources: dict[str, dict[str, bytes]] = {}
        self.manifests: list[wire.Manifest] = []
        self.readings: list[wire.Readings] = []
        self.hand_over: wire.HandOver | None = None
        self.runners: dict[tuple[str, int], wire.RunnerGiven] = {}
        self.runners_given: list[tuple[str, int]] = []
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.multipart_from = 2**62
        self.part_size = 2**20
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.down = False

    @property
    def session(self) -> str:
        return "session-" + hashlib.sha256(self.nonces[0].encode()).hexdigest()[:16] if self.nonces else ""

    def order(self, order: wire.Order) -> tuple[str, int]:
        """Want this attempt."""
        key = (order.job, order.number)
        with self.changed:
            self.orders[key] = order
            self.wanted[key] = wire.AttemptOught(order.job, order.number)
            self._touch()
        return key

    def cancel(self, key: tuple[str, int], how: str) -> None:
        with self.changed:
            self.wanted[key] = replace(self.wanted[key], cancel=how)
            self._touch()

    def unwant(self, key: tuple[str, int]) -> None:
        with self.changed:
            del self.wanted[key]
            self._touch()

    def finish(self) -> None:
        with self.changed:
            self.end = True
            self._touch()

    def blob(self, data: bytes) -> str:
        """Keep a workspace; its hash."""
        digest = hashlib.sha256(data).hexdigest()
        self.objects[f"blobs/{digest}"] = data
        return digest

    def until(self, found: Any, timeout_s: float = 30.0) -> Any:
        """What `found()` gives once it is true."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not (value := found()):
                if time.monotonic() > deadline:
                    states = [(s.phase, s.exit_code, s.why, s.detail) for s in self.states.values()]
                    raise AssertionError(
                        f"waited {timeout_s} s; {states}, drained={self.drained}, {self.requests[-10:]}"
                    )
                self.changed.wait(0.02)
        return value

    def ended(self, key: tuple[str, int], timeout_s: float = 30.0) -> wire.AttemptState:
        state: wire.AttemptState = self.until(
            lambda: (s := self.states.get(key)) is not None and s.phase == "ended" and s, timeout_s
        )
        return state

    @property
    def drained(self) -> bool:
        return bool(self.syncs) and self.syncs[-1].drained

    def log(self, key: tuple[str, int]) -> Log:
        return self.logs.setdefault(key, Log())

    def final(self, area: str = "results") -> wire.Manifest:
        return next(m for m in reversed(self.manifests) if m.area == area and (m.final or area == "checkpoints"))

    def file(self, manifest: wire.Manifest, path: str) -> bytes:
        """A file's bytes as they were stored."""
        (entry,) = [one for one in manifest.files if one.path == path]
        data = self.objects[f"{self._prefix(manifest.area, manifest.job, manifest.number)}/{entry.key}"]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)
        return data

    def _touch(self) -> None:
        self.version += 1
        self.changed.notify_all()

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """One request worked on."""
        path = urlsplit(url).path
        with self.changed:
            self.requests.append(f"{method} {path}")
            if path == "/agent/v1/join":
                return self._join(wire.decode(wire.Join, body))
            if headers.get("authorization") != f"Bearer {self.session}" or not self.session:
                return _error(401, "no such session")
            if path == "/agent/v1/sync":
                return self._sync(wire.decode(wire.Sync, body))
            if path.startswith("/agent/v1/log/"):
                return self._log(path, url, body)
            if path == "/agent/v1/grants":
                return self._grants(wire.decode(wire.GrantAsk, body))
            if path == "/agent/v1/manifest":
                return self._manifest(wire.decode(wire.Manifest, body))
            if path == "/agent/v1/readings":
                self.readings.append(wire.decode(wire.Readings, body))
                return 200, b"{}", {}
            if path == "/agent/v1/runner":
                return self._runner(wire.decode(wire.RunnerAsk, body))
            if path.startswith("/agent/v1/objects/"):
                return self._object(method, path[len("/agent/v1/objects/") :], headers, body)
        return _error(404, path)

    def _join(self, join: wire.Join) -> tuple[int, bytes, dict[str, str]]:
        if join.token != self.token or (self.nonces and join.nonce != self.nonces[0]):
            return _error(403, "this token was used with another nonce")
        self.nonces.append(join.nonce)
        return _message(wire.Joined(self.session))

    def _sync(self, sync: wire.Sync) -> tuple[int, bytes, dict[str, str]]:
        self.syncs.append(sync)
        for state in sync.attempts:
            self.states[(state.job, state.number)] = state
        reported = {(state.job, state.number): state for state in sync.attempts}
        if any(key not in self.wanted for key in reported) or any(s.phase == "ended" for s in sync.attempts):
            self._touch()
        self.changed.notify_all()
        deadline = time.monotonic() + sync.wait_s
        while self.version == sync.seen and time.monotonic() < deadline and not self.down:
            self.changed.wait(min(0.5, max(0.0, deadline - time.monotonic())))
        listed = []
        for key, one in self.wanted.items():
            told = reported.get(key)
            log = self.log(key).ack
            over = told is not None and told.phase == "ended" and self.forgetting
            order = self.orders[key] if told is None and self.states.get(key, _NONE).phase != "ended" else None
            listed.append(replace(one, order=order, forget=over, log_received=log.received, log_safe=log.safe))
        listed = [one for one in listed if one.order or (one.job, one.number) in reported]
        ought = wire.Ought(self.version, listed, end=self.end, poll_s=sync.wait_s or 1.0, hand_over=self.hand_over)
        return _message(ought)

    def _log(self, path: str, url: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        job, number = path.split("/")[-2:]
        spans, data = wire.unpack_log(body)
        offset = int(parse_qs(urlsplit(url).query)["offset"][0])
        ack = self.log((job, int(number))).append(offset, spans, data)
        self.changed.notify_all()
        return _message(ack)

    def _prefix(self, area: str, job: str, number: int) -> str:
        return f"results/{job}/{number}" if area == "results" else f"checkpoints/{job}"

    def _grants(self, ask: wire.GrantAsk) -> tuple[int, bytes, dict[str, str]]:
        if ask.op == "list":
            found = self.sources.get(ask.items[0].key, {})
            prints = {url: hashlib.sha256(data).hexdigest() for url, data in found.items()}
            return _message(wire.Grants([wire.Grant(u, size=len(d), sha256=prints[u]) for u, d in found.items()]))
        if ask.op == "complete":
            for one in ask.uploads:
                parts = self.uploads.pop(one["upload_id"])
                assert one["parts"] == [f'"{index}"' for index in range(len(parts))]
                key = f"{self._prefix(ask.area, ask.job, ask.number)}/{one['key']}"
                self.objects[key] = b"".join(parts[index] for index in sorted(parts))
            return _message(wire.Grants())
        if ask.op == "get":
            return _message(wire.Grants([self._readable(ask, item) for item in ask.items]))
        return _message(wire.Grants([self._writable(ask, item) for item in ask.items]))

    def _readable(self, ask: wire.GrantAsk, item: wire.GrantItem) -> wire.Grant:
        key = item.key
        if ask.area == "workspace":
            key = f"blobs/{item.key}"
        elif ask.area == "checkpoints":
            key = f"checkpoints/{ask.job}/{item.key}"
        elif ask.area == "inputs":
            data = next(found[item.key] for found in self.sources.values() if item.key in found)
            key = f"inputs/{hashlib.sha256(item.key.encode()).hexdigest()}"
            self.objects[key] = data
        size = len(self.objects[key]) if key in self.objects else 0
        return wire.Grant(item.key, f"/agent/v1/objects/{key}", "GET", size=size)

    def _writable(self, ask: wire.GrantAsk, item: wire.GrantItem) -> wire.Grant:
        key = f"{self._prefix(ask.area, ask.job, ask.number)}/{item.key}"
        if key in self.objects:
            return wire.Grant(item.key, exists=True, size=item.size)
        if item.size >= self.multipart_from:
            upload = f"upload-{len(self.uploads)}-{item.key[:8]}"
            self.uploads[upload] = {}
            count = -(-item.size // self.part_size)
            urls = [f"/agent/v1/objects/parts/{upload}/{index}" for index in range(count)]
            return wire.Grant(item.key, part_size=self.part_size, parts=urls, upload_id=upload)
        return wire.Grant(item.key, f"/agent/v1/objects/{key}", size=item.size)

    def _manifest(self, manifest: wire.Manifest) -> tuple[int, bytes, dict[str, str]]:
        if (manifest.job, manifest.number) not in self.wanted:
            return _error(409, "not the live attempt")
        for entry in manifest.files:
            assert f"{self._prefix(manifest.area, manifest.job, manifest.number)}/{entry.key}" in self.objects
        self.manifests.append(manifest)
        self.changed.notify_all()
        return 200, b"{}", {}

    def _runner(self, ask: wire.RunnerAsk) -> tuple[int, bytes, dict[str, str]]:
        key = (ask.job, ask.number)
        if key not in self.wanted or key not in self.runners:
            return _error(409, "it is not to have a runner any more")
        self.runners_given.append(key)
        self.changed.notify_all()
        return _message(self.runners[key])

    def _object(self, method: str, key: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if method == "PUT" and key.startswith("parts/"):
            _, upload, index = key.split("/")
            self.uploads[upload][int(index)] = body
            return 200, b"", {"ETag": f'"{index}"'}
        if method == "PUT":
            self.objects[key] = body
            return 201, b"", {}
        if key not in self.objects:
            return _error(404, "no such object")
        data = self.objects[key]
        start = headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        return (206, data[int(start) :], {}) if start else (200, data, {})


_NONE = wire.AttemptState("", 0, "")


def _message(message: Any) -> tuple[int, bytes, dict[str, str]]:
    return 200, wire.encode(message), {"content-type": "application/json"}


def _error(status: int, message: str) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"error": {"kind": "Refused", "message": message}}).encode(), {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    controller: Controller

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self._fault()
        if self.controller.down:
            self.close_connection = True
            return
        if fault.status:
            answer = _error(fault.status, "as it was told to")
        else:
            for _ in range(2 if fault.double else 1):
                answer = self.controller.answer(self.command, self.path, self.headers, body)
        time.sleep(fault.delay_s)
        if fault.lose:
            self.close_connection = True
            return
        status, data, headers = answer
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(data)}", *(f"{k}: {v}" for k, v in headers.items())]
        with contextlib.suppress(OSError):
            self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    do_GET = do_PUT = do_POST = _serve

    def _fault(self) -> Fault:
        with self.controller.changed:
            for fault in self.controller.faults:
                if fault.path in self.path and fault.times:
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return Fault("")

    def log_message(self, *_: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "controller", 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish_request(request, client_address or ("unix", 0))


class _UnixServer(_Server):
    address_family = socket.AF_UNIX


@contextlib.contextmanager
def serving(controller: Controller, socket_path: Path) -> Iterator[list[str]]:
    """Listen on both; the base URLs, the Unix socket's first."""

    class Handler(_Handler):
        pass

    Handler.controller = controller
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_path)
    servers = [_UnixServer(str(socket_path), Handler), _Server(("127.0.0.1", 0), Handler)]  # type: ignore[arg-type]
    threads = [threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True) for one in servers]
    for thread in threads:
        thread.start()
    try:
        yield [f"unix:{socket_path}", f"http://127.0.0.1:{servers[1].socket.getsockname()[1]}"]
    finally:
        controller.down = True
        with controller.changed:
            controller.changed.notify_all()
        for one in servers:
            one.shutdown()
            one.server_close()
