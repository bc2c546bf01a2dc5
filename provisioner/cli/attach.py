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
from collections.abc import Callable
from typing import Any

from . import health, render
from .amounts import counted, shown_size, shown_span
from .client import Client, Incoming, refusal
from .embedded import again
from .failures import OURS, REFUSED, CliError, Unreachable

_HEADER = struct.Struct("<BIQId")
_CONTROL = 3
_SETTLE_S = 60.0
_PAUSE_S = 0.2  # before a stream that brought nothing is asked for again; arbitrary
_ANEW_S = 60.0  # how often a paused provider is offered what this command has; arbitrary
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
        "log-lost",
        "setup-failed",
    }
)


class Attached:
    """`run` returns the exit code. `follow_log` alone is `runner logs`. `hand_over` gives a controller whose providers
    are paused the credentials that there are here now."""

    def __init__(self, client: Client, job_id: str, hand_over: Callable[[Client], None] | None = None) -> None:
        self._client = client
        self._job_id = job_id
        self._asked = 0
        self._after = 0
        self._patient = False
        self._deaf: set[int] = set()
        self._over = threading.Event()
        self._telling = threading.Lock()
        self._trouble = ""
        self._hand_over = hand_over
        self._handed_s = float("-inf")

    def listen(self) -> None:
        """From here on an interruption is for the job, also while it is still being submitted."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._interrupted())

    def run(self) -> int:
        self._patient = True
        threading.Thread(target=self._watch_events, daemon=True).start()
        self.follow_log(follow_on=True)
        return self._finish()

    def follow_log(self, *, follow_on: bool, attempt: str = "all") -> dict[str, Any]:
        """Write the log out; the job as it is when the log ends. A stream that breaks is taken up where it broke."""
        number, offset, lost = attempt, 0, False
        while True:
            before = (number, offset)
            try:
                query = {"attempt": number, "offset": offset, "follow": int(follow_on)}
                response = self._client.another().open("GET", self._path(f"log?{urllib.parse.urlencode(query)}"))
                if 400 <= response.status < 500:
                    raise refusal(response)
                stream = Incoming(response)
                while response.status < 400 and len(header := stream.take(_HEADER.size)) == _HEADER.size:
                    kind, length, at, which, _ = _HEADER.unpack(header)
                    data = stream.take(length)
                    if kind == _CONTROL:
                        told = json.loads(data) if len(data) == length else {}
                        if told.get("end"):
                            ended: dict[str, Any] = told.get("job") or {}
                            return ended
                        continue
                    self._write(kind, data)
                    number, offset = (str(which) if attempt != "all" else f"{which}+"), at + len(data)
                if not follow_on and not stream.broken and response.status < 400:
                    return {}
            except Unreachable:
                pass
            if lost and (number, offset) == before:
                time.sleep(_PAUSE_S)
            lost = True
            self._come_back()

    def _path(self, rest: str = "") -> str:
        return f"/jobs/{self._job_id}/{rest}".rstrip("/")

    def _write(self, kind: int, data: bytes) -> None:
        """To our own stdout or stderr. A job goes on when nobody reads what it says any more."""
        out = sys.stdout.buffer if kind == 1 else sys.stderr.buffer
        if kind in self._deaf:
            return
        try:
            out.write(data)
            out.flush()
        except OSError:
            if not self._patient:
                raise
            self._deaf.add(kind)
            os.dup2(os.open(os.devnull, os.O_WRONLY), kind)
            render.say(f"runner: nobody reads the output any more; {self._job_id} goes on")

    def _interrupted(self) -> None:
        self._asked += 1
        now = self._asked > 1
        text = "ending it at once" if now else "asking it to end; once more ends it at once"
        os.write(2, f"\nrunner: {text}\n".encode())
        threading.Thread(target=self._cancel, args=(now,), daemon=True).start()

    def _cancel(self, now: bool) -> None:
        client = self._client.another()
        for _ in range(20):
            try:
                client.post(self._path("cancel"), {"now": now})
                return
            except CliError as error:
                if error.code == REFUSED:
                    return
            time.sleep(_PAUSE_S)  # it is not stored yet, or the controller is away

    def _watch_events(self) -> None:
        client = self._client.another()
        while not self._over.is_set():
            try:
                if not self._take_events(client, wait_s=10):
                    self._ask_health(client)
            except CliError:
                client.close()
                self._over.wait(0.5)

    def _ask_health(self, client: Client) -> None:
        """Nothing has happened for a while: is that the job's own pace? Raises: CliError."""
        found = health.look(client)
        paused = found.get("paused") or {}
        if paused and self._hand_over is not None and time.monotonic() - self._handed_s > _ANEW_S:
            self._handed_s = time.monotonic()
            self._hand_over(client)
            paused = (found := health.look(client)).get("paused") or {}
        error = found.get("error", "")
        trouble = f"the controller cannot work: {error}" if error else "; ".join(paused.values())
        if trouble and trouble != self._trouble:
            render.say(f"runner: {trouble}")
        self._trouble = trouble

    def _take_events(self, client: Client, *, wait_s: int) -> bool:
        """Say those that nobody has said yet; whether there were any. Raises: CliError."""
        found = client.get("/events", job=self._job_id, after=self._after, wait_s=wait_s)
        with self._telling:
            for event in found:
                if event["id"] > self._after and not self._over.is_set():
                    self._after = event["id"]
                    if line := _line(event):
                        render.say(f"runner: {line}")
        return bool(found)

    def _finish(self) -> int:
        self._asking(lambda: self._take_events(self._client, wait_s=0))  # a short job's are told too
        shown = self._asking(lambda: self._client.get(self._path()))
        attempts = shown.get("attempts_list") or []
        if attempts:
            self._await_settled(attempts[-1]["instance_id"])
            shown = self._asking(lambda: self._client.get(self._path()))
            self._over.set()
            self._summary(shown, shown["attempts_list"][-1])
        self._over.set()
        return _exit_code(shown, self._job_id)

    def _asking(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return ask()
            except Unreachable:
                self._come_back()

    def _come_back(self) -> None:
        """The controller may be a new one, and know nothing of what this command handed over."""
        again(self._client)
        if self._hand_over is not None and self._client.told.get("paused"):
            self._hand_over(self._client)

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
            what = f"{counted(len(files), 'output')} synced ({shown_size(sum(int(one['size']) for one in files))})"
            render.say(f"runner: {what}; `runner pull {self._job_id}` brings them here")
        for refused in manifest.get("refused") or []:
            render.say(f"runner: not taken: {refused}")
        render.say(f"runner: cost so far, estimated: {render.usd(job.get('cost_usd'), job.get('cost_unknown', False))}")

    def _await_settled(self, instance_id: str) -> None:
        """Until the machine is kept for others, or its end was accepted."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            instance = self._asking(lambda: self._client.get(f"/instances/{instance_id}"))
            if instance["phase"] == "gone" or instance["terminate_calls"]:
                render.say(f"runner: machine {instance['id']} torn down")
                return
            if instance["phase"] == "ready" and (instance.get("idle_timeout_s") or instance.get("busy")):
                return
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
