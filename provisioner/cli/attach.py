"""Following one job to its end: its output as it comes, what happens to it, and what becomes of an interruption.

The log is followed by offset and attempt, so a lost controller costs nothing: reconnect, go on. The first Ctrl-C asks
the job to end kindly, the second ends it at once.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
import urllib.parse
from typing import Any

from . import render
from .amounts import shown_size, shown_span
from .client import Client, follow
from .embedded import again, another
from .failures import OURS, CliError, Unreachable

_HEADER = struct.Struct("<BIQId")
_SETTLE_S = 60.0
_CODES = {"timed-out": 124, "cancelled": 130}
_OURS = frozenset(
    {
        "no-capacity",
        "quota",
        "rejected",
        "impossible",
        "budget",
        "expired",
        "outputs-failed",
        "inputs-failed",
        "log-limit",
        "setup-failed",
    }
)


class Attached:
    """`run` returns the exit code. `quiet` shows the job's own output only."""

    def __init__(self, client: Client, job_id: str, *, quiet: bool = False) -> None:
        self._client = client
        self._job_id = job_id
        self._quiet = quiet
        self._asked = 0
        self._after = 0
        self._shown_outputs = False
        self._over = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._interrupted())
        watcher = threading.Thread(target=self._watch_events, daemon=True)
        watcher.start()
        job = self.follow_log(follow_on=True)
        self._over.set()
        watcher.join(2)
        return self._finish(job)

    def follow_log(self, *, follow_on: bool, attempt: str = "all", offset: int = 0) -> dict[str, Any]:
        """Write the log out; the job as it is when the log ends."""
        number = attempt
        while True:
            try:
                query = {"attempt": number, "offset": offset, "follow": int(follow_on)}
                path = f"/jobs/{self._job_id}/log?{urllib.parse.urlencode(query)}"
                log = self._client_of_its_own()
                response = log.open("GET", path, timeout_s=60)
                if response.status >= 400:
                    raise CliError(f"no log: {response.read()[:300].decode(errors='replace')}", "", 2)
                while header := follow(response, _HEADER.size):
                    if len(header) < _HEADER.size:
                        break
                    stream, length, at, which, _ = _HEADER.unpack(header)
                    data = follow(response, length)
                    if stream == 3:
                        told = json.loads(data)
                        if told.get("end"):
                            ended: dict[str, Any] = told.get("job") or {}
                            return ended
                        continue
                    _write(stream, data)
                    number, offset = (str(which) if attempt != "all" else f"{which}+"), at + len(data)
                if not follow_on:
                    return {}
            except Unreachable:
                pass
            again(self._client)

    def _client_of_its_own(self) -> Client:
        return another(self._client.target)

    def _interrupted(self) -> None:
        self._asked += 1
        now = self._asked > 1
        text = "ending it at once" if now else "asking it to end; once more ends it at once"
        os.write(2, f"\nrunner: {text}\n".encode())
        threading.Thread(target=self._cancel, args=(now,), daemon=True).start()

    def _cancel(self, now: bool) -> None:
        for _ in range(20):
            try:
                self._client_of_its_own().post(f"/jobs/{self._job_id}/cancel", {"now": now})
                return
            except Unreachable:
                time.sleep(0.5)

    def _watch_events(self) -> None:
        client = self._client_of_its_own()
        while not self._over.is_set():
            try:
                found = client.get("/events", job=self._job_id, after=self._after, wait_s=10)
            except CliError:
                client.close()
                self._over.wait(0.5)
                continue
            for event in found:
                self._after = event["id"]
                self._show(event)

    def _show(self, event: dict[str, Any]) -> None:
        line = _line(event)
        if line and not self._quiet:
            render.say(f"runner: {line}")

    def _finish(self, job: dict[str, Any]) -> int:
        self._await_settled()
        shown = self._client.get(f"/jobs/{self._job_id}")
        attempts = shown.get("attempts_list") or []
        if attempts and not self._quiet:
            self._summary(shown, attempts[-1])
        return _exit_code(shown, self._job_id)

    def _summary(self, job: dict[str, Any], attempt: dict[str, Any]) -> None:
        timings = (attempt.get("facts") or {}).get("timings") or {}
        spans = [
            f"{name} {shown_span(timings[key])}"
            for name, key in (("setup", "setup_s"), ("run", "run_s"))
            if key in timings
        ]
        if spans:
            render.say(f"runner: {', '.join(spans)}")
        manifest = (job.get("manifests") or {}).get("results") or {}
        files = manifest.get("files") or []
        if files:
            total = shown_size(sum(int(one["size"]) for one in files))
            render.say(f"runner: {len(files)} outputs synced ({total}); `runner pull {self._job_id}` brings them here")
        for refused in manifest.get("refused") or []:
            render.say(f"runner: not taken: {refused}")
        render.say(f"runner: cost so far, estimated: {render.usd(job.get('cost_usd'), job.get('cost_unknown', False))}")

    def _await_settled(self) -> None:
        """Until the machine is kept for others, or its end was accepted."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            try:
                attempts = self._client.get(f"/jobs/{self._job_id}").get("attempts_list") or []
                if not attempts:
                    return
                instance = self._client.get(f"/instances/{attempts[-1]['instance_id']}")
                if instance["terminate_calls"] and not self._quiet:
                    render.say(f"runner: machine {instance['id']} torn down")
                if instance["phase"] == "gone" or instance["terminate_calls"]:
                    return
                if instance["phase"] == "ready" and (instance.get("idle_timeout_s") or instance.get("busy")):
                    return
            except Unreachable:
                again(self._client)
            time.sleep(0.03)


def _line(event: dict[str, Any]) -> str:
    """What an event says to whoever waits; "" when it is not for them."""
    what, message = event["what"], event.get("message", "")
    texts = {
        "instance.planned": f"offer chosen: {message}",
        "instance.launching": "launching the machine",
        "instance.ready": f"machine {event['instance_id']} is up",
        "job.waits": f"waiting: {message}",
        "job.requeued": f"to be tried again: {message}",
    }
    return texts.get(what, "")


def _exit_code(job: dict[str, Any], job_id: str) -> int:
    outcome, why = job.get("outcome"), (job.get("reason") or {}).get("why", "")
    code = job.get("exit_code")
    if outcome in _CODES:
        result = _CODES[outcome]
    elif outcome == "succeeded":
        result = 0
    elif outcome in ("impossible", "over-budget", "expired") or code is None or why in _OURS:
        result = OURS
    else:
        result = int(code)
    told = render.reason(job.get("reason"))
    render.say(f"runner: {job_id} {outcome} (exit {result}){f': {told}' if outcome != 'succeeded' and told else ''}")
    return result


def _write(stream: int, data: bytes) -> None:
    out = sys.stdout.buffer if stream == 1 else sys.stderr.buffer
    out.write(data)
    out.flush()
