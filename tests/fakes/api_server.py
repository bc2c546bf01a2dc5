"""The people's API as the command line sees it: a real HTTP server on a Unix socket, state in memory, faults on demand.

A submitted job plays its `Script` at once: events, output, results, an end. What was asked is kept in `asked`, so that
a test can say what was sent. `cut_log_every` breaks log streams off; `stop` and `start` are a controller's restart.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from .api_rows import OFFER, STAMP, instance_row, spans
from .unix_server import UnixServer

HEADER = struct.Struct("<BIQId")


@dataclass
class Script:
    """What becomes of a job. It ends when `until` says so, or is cancelled."""

    output: list[tuple[int, bytes]] = field(default_factory=list)
    outcome: str = "succeeded"
    exit_code: int | None = 0
    why: str = ""
    detail: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    wait_for_cancel: bool = False
    online: bool = True
    phase_after: str = "gone"


@dataclass
class FakeApi:
    """`refuse` maps (method, path pattern) to (status, error); it is looked at before anything else."""

    path: Path
    version: str = "99.0"
    providers: list[str] = field(default_factory=list)
    embedded: bool = True
    script: Script = field(default_factory=Script)
    refuse: dict[tuple[str, str], tuple[int, dict[str, str]]] = field(default_factory=dict)
    cut_log_every: int = 0
    slow_submit_s: float = 0.0
    slow_file_s: float = 0.0
    cut_file_after: int = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    manifest: dict[str, Any] | None = None
    readings: list[list[Any]] = field(default_factory=list)
    interruption: dict[str, Any] | None = None
    links: dict[str, str] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=lambda: {"ok": True})
    clouds: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, bytes] = field(default_factory=dict)
    taken: dict[str, Any] = field(default_factory=dict)
    forges: dict[str, dict[str, Any]] = field(default_factory=dict)
    ghosts: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> FakeApi:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = UnixServer(str(self.path), type("Handler", (_Handler,), {"api": self}))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    def sent(self, method: str, path: str) -> list[Any]:
        """The bodies of all calls of a method whose path begins so."""
        return [body for m, p, body in self.asked if m == method and p.startswith(path)]

    def wait_for(self, found: Callable[[], Any], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not found():
            assert time.monotonic() < deadline, self.asked
            time.sleep(0.01)

    def submit(self, job_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        if job_id not in self.jobs:
            script = self.script
            job = {"id": job_id, "owner": "me", "spec": {"name": "", **spec}, "created_at": STAMP, "attempts": 1}
            job |= {"phase": "running", "outcome": None, "exit_code": None, "reason": {"why": "", "detail": ""}}
            self.jobs[job_id] = job
            self.logs[job_id] = list(script.output)
            self.event(job_id, "instance.planned", "local here this on-demand $0/h")
            self.event(job_id, "instance.ready", "")
            if spec.get("runner"):
                return self._runner(job_id, script)
            if not script.wait_for_cancel:
                self.end(job_id, script.outcome, script.exit_code, script.why, script.detail)
        return self.jobs[job_id]

    def _runner(self, job_id: str, script: Script) -> dict[str, Any]:
        """It comes, or does not; it ends only when it is cancelled, or, once somebody looks, as the script says."""
        self.event(job_id, "runner.registered", f"runner-of-{job_id}")
        if script.online:
            self.event(job_id, "runner.online", f"runner-of-{job_id} waits for a job")
        return self.jobs[job_id]

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        spec = self.jobs[job_id]["spec"].get("runner")
        came = any(e["what"] == "runner.online" and e["job_id"] == job_id for e in self.events)
        times = {"online_at": STAMP if came else None, "busy_at": None, "gone_at": None}
        return [{"name": f"runner-of-{job_id}", "site": spec["url"], "forge_id": "7", **times}] if spec else []

    def event(self, job_id: str, what: str, message: str) -> None:
        more = {"job_id": job_id, "instance_id": "i-1", "attempt": 1}
        self.events.append({"id": len(self.events) + 1, "at": STAMP, "what": what, "message": message, **more})

    def end(self, job_id: str, outcome: str, exit_code: int | None, why: str = "", detail: str = "") -> None:
        reason = {"why": why, "detail": detail}
        self.jobs[job_id] |= {"phase": "done", "outcome": outcome, "exit_code": exit_code, "reason": reason}

    def record(self, job: dict[str, Any]) -> dict[str, Any]:
        timings = {"setup_s": 1.5, "running_s": 2.0}
        attempt = {"job_id": job["id"], "number": 1, "instance_id": "i-1", "phase": "ended", "log_size": 0}
        attempt |= {"reason": job["reason"], "facts": {"timings": timings, "machine": {"cpus": 2}}, "exit_code": 0}
        attempt["interruption"] = self.interruption
        costs = {"cost_usd": "0.25", "cost_unknown": False}
        more = {"runners": self.rows(job["id"])}
        return {
            **job,
            **costs,
            **more,
            "attempts_list": [attempt],
            "charges": [],
            "manifests": {"results": self.results()},
        }

    def results(self) -> dict[str, Any]:
        files = [
            {"path": p, "size": len(b), "sha256": hashlib.sha256(b).hexdigest(), "key": p, "mode": 0o755}
            for p, b in self.script.files.items()
        ]
        return self.manifest or {"files": files, "refused": self.script.refused, "final": True, "number": 1}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path).removeprefix("/api/v1")
        query = dict(urllib.parse.parse_qsl(parts.query))
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data and "json" in self.headers.get("Content-Type", "") else data
        self.api.asked.append((method, path, body if method in ("POST", "PUT") else query))
        for (refused, pattern), (status, error) in self.api.refuse.items():
            if refused == method and re.fullmatch(pattern, path):
                return self._json({"error": error}, status)
        for known, pattern, act in _ROUTES:
            if known == method and (match := re.fullmatch(pattern, path)):
                return act(self, *match.groups(), query if method in ("GET", "HEAD") else body)
        return self._json({"error": {"kind": "NotFound", "message": f"no {path}", "hint": ""}}, 404)

    def _json(self, value: Any, status: int = 200) -> None:
        self._bytes(json.dumps(value).encode(), status)

    def _bytes(self, data: bytes, status: int = 200, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if size is None else size))
        self.end_headers()
        self.wfile.write(data)

    def _job(self, job_id: str) -> dict[str, Any] | None:
        job = self.api.jobs.get(job_id)
        if job is None:
            error = {"kind": "NotFound", "message": f"no job {job_id!r}", "hint": "`runner ps -a` lists them"}
            self._json({"error": error}, 404)
        return job

    def status(self, _: Any) -> None:
        told: dict[str, Any] = {"version": self.api.version, "embedded": self.api.embedded, "pid": 1}
        told |= {"providers": self.api.providers} if self.api.providers else {}
        paused = self.api.health.get("paused") or {}
        told["forges"] = self.api.forges
        self._json(told | ({"credentials": self.api.clouds, "paused": paused} if self.api.clouds else {}))

    def shutdown(self, _: Any) -> None:
        self._json({})

    def list_jobs(self, query: dict[str, str]) -> None:
        wanted = [job for job in self.api.jobs.values() if query.get("all") == "1" or job["phase"] != "done"]
        self._json([{**job, "cost_usd": "0.25", "cost_unknown": False} for job in wanted])

    def submit(self, body: Any) -> None:
        time.sleep(self.api.slow_submit_s)
        self._json(self.api.submit(body["id"], body["spec"]), 201)

    def show(self, job_id: str, _: Any) -> None:
        if job := self._job(job_id):
            script = self.api.script
            if job["spec"].get("runner") and script.why and job["phase"] != "done":
                self.api.end(job_id, script.outcome, script.exit_code, script.why, script.detail)
            self._json(self.api.record(job))

    def why(self, job_id: str, _: Any) -> None:
        if job := self._job(job_id):
            ladder = [{"offer": "local here this $0/h", "refused": "has 2 CPUs, asked for 64"}]
            self._json({"job": job, "lines": ["it waits for an offer"], "ladder": ladder, "events": []})

    def cancel(self, job_id: str, body: Any) -> None:
        if job := self._job(job_id):
            if body["now"] or not self.api.script.why:
                self.api.end(job_id, "cancelled", 130, "cancelled", "asked to")
            self._json(job)

    def rerun(self, job_id: str, body: Any) -> None:
        if job := self._job(job_id):
            self._json(self.api.submit(body["id"], {**job["spec"], "rerun_of": job_id}), 201)

    def log(self, job_id: str, query: dict[str, str]) -> None:
        if self._job(job_id) is None:
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        offset, follow = int(query.get("offset", "0")), query.get("follow") == "1"
        left = self.api.cut_log_every or 2**62
        while True:
            done = self.api.jobs[job_id]["phase"] == "done"
            for stream, at, data in spans(self.api.logs[job_id], offset):
                whole = HEADER.pack(stream, len(data), at, 1, 0.0) + data
                if len(whole) > left:
                    self._chunk(whole[:left])
                    self.close_connection = True
                    return
                self._chunk(whole)
                left -= len(whole)
                offset = at + len(data)
            if done or not follow:
                break
            time.sleep(0.01)
        if follow:
            told = json.dumps({"end": True, "job": self.api.jobs[job_id]}).encode()
            self._chunk(HEADER.pack(3, len(told), 0, 1, 0.0) + told)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def read_events(self, query: dict[str, str]) -> None:
        deadline = time.monotonic() + min(0.2, float(query.get("wait_s", "0")))
        while True:
            new = [e for e in self.api.events if e["id"] > int(query.get("after", "0"))][
                : int(query.get("limit", 9999))
            ]
            if new or time.monotonic() >= deadline:
                return self._json([e for e in new if query.get("job", e["job_id"]) == e["job_id"]])
            time.sleep(0.01)

    def machine(self, _: Any) -> None:
        self._json(instance_row(self.api.script.phase_after))

    def machines(self, _: Any) -> None:
        self._json([instance_row("ready")])

    def read_readings(self, job_id: str, _: Any) -> None:
        self._json(self.api.readings)

    def manifest(self, job_id: str, _: Any) -> None:
        found = self.api.results()
        self._json({"attempt": 1, "manifest": found if found["files"] else None, "final": True})

    def file(self, name: str, _: Any) -> None:
        data = self.api.script.files[name]
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if "Range" in self.headers else 0
        rest, status = data[start:], 206 if start else 200
        time.sleep(self.api.slow_file_s)
        if self.api.cut_file_after and len(rest) > self.api.cut_file_after:
            self._bytes(rest[: self.api.cut_file_after], status, len(rest))
            self.close_connection = True
        else:
            self._bytes(rest, status)

    def find_links(self, body: Any) -> None:
        self._json({"links": {path: self.api.links[path] for path in body["paths"] if path in self.api.links}})

    def has_blob(self, digest: str, _: Any) -> None:
        self._bytes(b"", 200 if digest in self.api.blobs else 404)

    def put_blob(self, digest: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == digest
        self.api.blobs[digest] = len(body)
        self._json({}, 201)

    def publish(self, digest: str, name: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == digest
        self.api.published[name] = body
        self._json({"url": f"https://objects.example/{digest[:8]}/{name}?signed=yes", "expires_at": None}, 201)

    def put_secret(self, name: str, body: Any) -> None:
        self.api.secrets[name] = body["value"]
        self._json({})

    def list_secrets(self, _: Any) -> None:
        self._json([{"name": name, "fingerprint": "f1", "set_at": STAMP} for name in self.api.secrets])

    def drop_secret(self, name: str, _: Any) -> None:
        self._json({} if self.api.secrets.pop(name, None) else {"error": {"kind": "NotFound"}})

    def token(self, body: Any) -> None:
        self._json({"id": "token-1", "token": "rt_shown-once"}, 201)

    def offers(self, _: Any) -> None:
        self._json([{"offer": OFFER, "text": "local here this on-demand $0/h", "refused": ""}])

    def collect(self, body: Any) -> None:
        self._json({"found": ["runner-i-9"], "ended": [] if body["dry_run"] else ["runner-i-9"]})

    def collect_runners(self, body: Any) -> None:
        done = self.api.ghosts if body.get("remove") else {}
        refused = {name: why for name, why in done.items() if why}
        self._json({"found": [*self.api.ghosts], "ended": [*(done.keys() - refused)], "refused": refused})

    def stop_machine(self, instance: str, _: Any) -> None:
        self._json({**instance_row("draining"), "id": instance})


_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/status", _Handler.status),
    ("POST", "/shutdown", _Handler.shutdown),
    ("GET", "/jobs", _Handler.list_jobs),
    ("POST", "/jobs", _Handler.submit),
    ("GET", "/jobs/([^/]+)", _Handler.show),
    ("GET", "/jobs/([^/]+)/why", _Handler.why),
    ("POST", "/jobs/([^/]+)/cancel", _Handler.cancel),
    ("POST", "/jobs/[^/]+/awaited", lambda handler, _: handler._json({"within_s": 2.0})),
    ("POST", "/jobs/([^/]+)/rerun", _Handler.rerun),
    ("GET", "/jobs/([^/]+)/log", _Handler.log),
    ("GET", "/jobs/([^/]+)/readings", _Handler.read_readings),
    ("GET", "/jobs/[^/]+/results/1/files/(.+)", _Handler.file),
    ("GET", "/jobs/([^/]+)/results", _Handler.manifest),
    ("POST", "/jobs/[^/]+/results/1/links", _Handler.find_links),
    ("GET", "/healthz", lambda handler, _: handler._json(handler.api.health, 200 if handler.api.health["ok"] else 503)),
    ("GET", "/events", _Handler.read_events),
    ("GET", "/instances", _Handler.machines),
    ("GET", "/instances/[^/]+", lambda handler, query: handler.machine(query)),
    ("POST", "/instances/([^/]+)/stop", _Handler.stop_machine),
    ("HEAD", "/blobs/([0-9a-f]{64})", _Handler.has_blob),
    ("PUT", "/blobs/([0-9a-f]{64})", _Handler.put_blob),
    ("PUT", "/published/([0-9a-f]{64})/([^/]+)", _Handler.publish),
    ("PUT", "/secrets/([^/]+)", _Handler.put_secret),
    ("GET", "/secrets", _Handler.list_secrets),
    ("DELETE", "/secrets/([^/]+)", _Handler.drop_secret),
    ("POST", "/tokens", _Handler.token),
    ("GET", "/offers", _Handler.offers),
    ("POST", "/gc", _Handler.collect),
    ("POST", "/gc/runners", _Handler.collect_runners),
    ("PUT", "/forges/([^/]+)", lambda handler, kind, body: handler._json({"site": body["url"], "kind": kind})),
    ("PUT", "/credentials/([^/]+)", lambda handler, *_: handler._json(handler.api.taken)),
]
