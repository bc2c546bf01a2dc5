"""A very small forge, and the place that its runner programs are fetched from: real HTTP, one job at a time.

It speaks what tests/fakes/standin_runner.py speaks: GitHub's part as tests/fakes/github/runner_api.py has it, a little
of GitLab's job API, and Gitea's calls in JSON.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent import wire
from provisioner.domain.forge import RunnerOrder
from provisioner.domain.kinds import Kinds
from provisioner.forges.gitea.secret import registration
from provisioner.forges.registry import declared_in, known
from provisioner.web.agent_api.messages import program_told
from tests.fakes import standin_runner
from tests.house.places import TOP

TOKEN = "token-of-the-runner-1234567890"
KINDS = Kinds([*known(), *declared_in(TOP / "tests/fakes/elsewhere", "tests.fakes.elsewhere")])
SOFTWARE = {"github": "actions-runner", "gitlab": "gitlab-runner", "gitea": "act_runner", "anvil": "smith"}


def program(kind: str, software: str = "") -> dict[str, Any]:
    """How it is run, as a controller orders it."""
    return program_told(KINDS.program(kind, software or SOFTWARE[kind]))


@dataclass
class Forge:
    """`removed`: the runner's record, by its own token. `files` are what can be fetched, by path; `cut` breaks the next
    download off after so many bytes, `announced` is a length that is not true, `mute` tells none at all."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""
    job: dict[str, Any] | None = None
    given: bool = False
    cancelled: bool = False
    refuses: int = 0
    sessions: list[str] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    removed: bool = False
    cut: int = -1
    announced: int = 0
    mute: bool = False

    def jit(self, name: str) -> str:
        settings = {"AgentId": 7, "AgentName": name, "Ephemeral": True, "WorkFolder": "_work"}
        settings |= {"GitHubUrl": f"{self.url}/acme/vision", "ServerUrl": f"{self.url}/_runner"}
        files = {".runner": settings, ".credentials": {"Scheme": "OAuth", "Data": {"token": TOKEN}}}
        packed = {name: base64.b64encode(json.dumps(one).encode()).decode() for name, one in files.items()}
        return base64.b64encode(json.dumps(packed).encode()).decode()

    def registration(self, name: str) -> str:
        """What the controller gives for Gitea's and Forgejo's programs."""
        made = {"id": 7, "uuid": "u-7", "token": TOKEN}
        return registration(self.url, RunnerOrder(name, ("gpu-t4",)), made).secret

    def publish(self, data: bytes, path: str = "/software/program") -> str:
        """Its sha256."""
        self.files[path] = data
        return hashlib.sha256(data).hexdigest()

    def order(self, kind: str = "github", data: bytes | None = None, **changes: Any) -> wire.RunnerOrder:
        """What a controller would order, with the program published."""
        if data is None:
            data = standin_runner.packed() if kind == "github" else standin_runner.alone()
        values: dict[str, Any] = {
            "forge": kind,
            "name": "runner-i1",
            "url": f"{self.url}/acme/vision",
            "base": self.url,
            "labels": ["gpu-t4"],
            "software": SOFTWARE[kind],
            "version": standin_runner.VERSION,
            "software_url": f"{self.url}/software/program",
            "sha256": self.publish(data),
        }
        values |= changes
        return wire.RunnerOrder(**{"program": program(kind, values["software"]), **values})

    def queue(self, *steps: str, **more: Any) -> None:
        named = [{"name": str(index), "run": run} for index, run in enumerate(steps)]
        about = {"id": "12", "run_id": "3", "attempt": 1, "name": "train", "repository": "acme/vision"}
        with self.changed:
            self.job, self.given = {**about, "labels": ["gpu-t4"], "steps": named, **more}, False
            self.changed.notify_all()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """What is said to a runner program."""
        with self.changed:
            self.asked.append((method, path))
            if path == "/_runner/sessions":
                if not self.refuses:
                    self.sessions.append("s-7")
                return (self.refuses, {}) if self.refuses else (201, {"session": "s-7", "name": "runner-i1"})
            if path == "/_runner/sessions/s-7":
                self.sessions.remove("s-7")
                return 204, None
            if path.startswith("/_runner/sessions/s-7/job"):
                return (200, self.job) if self._has_job(1.0) else (204, None)
            if path.endswith("/end"):
                self.ended = body
                return 204, None
            if path.startswith("/_runner/jobs/"):
                self.changed.wait_for(lambda: self.cancelled, 0.2)
                return 200, {"cancelled": self.cancelled}
            return self._gitlab(method, path, body) if path.startswith("/api/v4") else self._gitea(path, body)

    def _gitlab(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/v4/jobs/request":
            if body["token"] != TOKEN:
                return 403, {}
            self.sessions = ["gitlab"]
            if not self._has_job(0.0) or self.job is None:
                return 204, None
            facts = {"CI_PROJECT_PATH": "acme/vision", "CI_PIPELINE_ID": "3", "CI_JOB_NAME": "train"}
            steps = [{"name": "script", "script": [step["run"] for step in self.job["steps"]]}]
            variables = [{"key": key, "value": value} for key, value in facts.items()]
            return 201, {"id": 12, "token": "job-token", "steps": steps, "variables": variables}
        if (method, path) == ("DELETE", "/api/v4/runners"):
            known = body["token"] == TOKEN and not self.removed
            self.removed = self.removed or known
            return (204, None) if known else (403, {})
        self.ended = body
        return 200, None

    def _gitea(self, path: str, body: Any) -> tuple[int, Any]:
        name = path.rpartition("/")[2]
        if name == "Declare":
            self.sessions = [] if self.refuses else list(body["labels"])
            return self.refuses or 200, {}
        if name == "FetchTask" and self._has_job(0.0) and self.job is not None:
            payload = base64.b64encode(json.dumps({"steps": self.job["steps"]}).encode()).decode()
            return 200, {"task": {"id": 12, "workflowPayload": payload, "context": {"repository": "acme/vision"}}}
        if name == "UpdateTask":
            self.ended = body["state"]
        return 200, {}

    def _has_job(self, wait_s: float) -> bool:
        self.given = self.changed.wait_for(lambda: self.job is not None, wait_s)
        return self.given

    def until(self, found: Any) -> None:
        deadline = time.monotonic() + 30
        with self.changed:
            while not found():
                assert time.monotonic() < deadline, self.asked
                self.changed.wait(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    forge: Forge

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path in self.forge.moved:
            self._send(302, b"", location=self.forge.moved[self.path])
        elif self.path.startswith("/software"):
            self._file()
        else:
            status, said = self.forge.answer(self.command, self.path, json.loads(body) if body else None)
            self._send(status, b"" if said is None else json.dumps(said).encode())
        with self.forge.changed:
            self.forge.changed.notify_all()

    def _file(self) -> None:
        self.forge.asked.append((self.command, self.headers.get("range", "")))
        data = self.forge.files.get(self.path.partition("?")[0], b"")
        start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self._send(416 if data else 404, b"")
            return
        cut, self.forge.cut = self.forge.cut, -1
        whole = data[start:]
        self._send(206 if start else 200, whole[: cut if cut >= 0 else None], size=self.forge.announced or len(whole))
        self.close_connection = self.close_connection or cut >= 0

    def _send(self, status: int, data: bytes, size: int | None = None, **headers: str) -> None:
        self.send_response(status)
        if self.forge.mute and status == 200:
            self.close_connection = True
        elif status != 204:
            self.send_header("content-length", str(len(data) if size is None else size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def log_message(self, *_: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        return  # whoever hung up has his reasons


@contextlib.contextmanager
def forge() -> Iterator[Forge]:
    made = Forge()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"forge": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
