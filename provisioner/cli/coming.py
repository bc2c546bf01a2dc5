"""Waiting for runners to come: what happens to each, until all are online at their forge or one cannot come.

If one cannot, or nobody waits any longer, all of them are cancelled: a launch leaves its runners or nothing.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import embedded, health, render
from .client import Client
from .failures import OURS, CliError, Unreachable
from .insist import cancel, insist
from .outlast import outlast

_LOOK_S = 0.25  # for one runner; many are looked at less often, so that waiting costs the same
_HEALTH_S = 2.0
_ANEW_S = 60.0  # how often a controller that lacks rights is offered what there is here; arbitrary
_SAID_OFTEN = 4  # in the time in which it must be said again; arbitrary
_TEXTS = {
    "instance.planned": "machine planned: {message}",
    "instance.launching": "launching the machine",
    "instance.booting": "the machine is booting",
    "instance.ready": "the machine is ready",
    "runner.registered": "registered: {message}",
    "job.waits": "waiting: {message}",
    "job.requeued": "to be tried again: {message}",
}


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP."""


class Coming:
    """`hand_over` gives a controller that lost its rights those that there are here; `again` waits for one that went
    away, or starts it again."""

    def __init__(
        self,
        client: Client,
        hand_over: Callable[[Client], None],
        again: Callable[[Client], None] = embedded.again,
    ) -> None:
        self._client = client
        self._hand_over = hand_over
        self._again = again
        self._after: dict[str, int] = {}
        self._trouble = ""
        self._looked_s = self._handed_s = time.monotonic()
        self._say_again_s = 0.0
        self._until_s = 0.0
        self.sent: list[str] = []

    def submit(self, job_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """The stored job. From here on it is cancelled if the launch fails."""
        self.sent.append(job_id)
        try:
            stored: dict[str, Any] = self._client.post("/jobs", {"id": job_id, "spec": spec})
        except CliError as error:
            if not isinstance(error, Unreachable):
                self.sent.remove(job_id)
            raise
        return stored

    def wait(self, ids: Sequence[str], limit_s: float) -> None:
        """Until all are online. Raises: CliError (125) with the reason."""
        waiting, deadline = list(ids), time.monotonic() + limit_s
        self._until_s = deadline
        while True:
            waiting = [job_id for job_id in waiting if not self._came(job_id)]
            if not waiting:
                return
            self._say_that_we_wait(waiting)
            if time.monotonic() >= deadline:
                why = self._why(waiting[0])
                raise CliError(f"not online after {limit_s:g} s: {why}", "--wait says how long to wait", OURS)
            self._asking(self._look_at_health)
            time.sleep(min(_LOOK_S * max(1, len(waiting) // 4), max(0.0, deadline - time.monotonic())))

    def _came(self, job_id: str) -> bool:
        job = self._asking(lambda: self._client.get(f"/jobs/{job_id}"))
        self._say_events(job_id)
        found = [row for row in job.get("runners") or () if row["online_at"]]
        if found:
            self._say(job_id, online=True)
            render.say(f"runner: {job_id} {found[-1]['name']} is online at {found[-1]['site']}")
            return True
        if job["phase"] == "done":
            why = render.reason(job.get("reason")) or "it ended before it was online"
            raise CliError(f"{job_id} {job['outcome']}: {why}", f"`runner why {job_id}` says more", OURS)
        return False

    def _say_that_we_wait(self, waiting: Sequence[str]) -> None:
        """Often enough; a controller that does not hear it any more takes them back."""
        if time.monotonic() < self._say_again_s:
            return
        for job_id in waiting:
            told = self._say(job_id, online=False)
            self._say_again_s = time.monotonic() + told["within_s"] / _SAID_OFTEN

    def _say(self, job_id: str, *, online: bool) -> dict[str, Any]:
        told: dict[str, Any] = self._asking(lambda: self._client.post(f"/jobs/{job_id}/awaited", {"online": online}))
        return told

    def _why(self, job_id: str) -> str:
        self._asking(lambda: self._look_at_health(now=True))
        told = self._asking(lambda: self._client.get(f"/jobs/{job_id}/why"))
        return " ".join(told["lines"][:1])

    def _say_events(self, job_id: str) -> None:
        found = self._asking(lambda: self._client.get("/events", job=job_id, after=self._after.get(job_id, 0)))
        for event in found:
            self._after[job_id] = event["id"]
            if text := _TEXTS.get(event["what"]):
                render.say(f"runner: {job_id} {text.format(message=event.get('message', ''))}")

    def _look_at_health(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._looked_s < _HEALTH_S:
            return
        self._looked_s = time.monotonic()
        paused = health.look(self._client).get("paused") or {}
        trouble = "; ".join(paused.values())
        if trouble and (not self._trouble or time.monotonic() - self._handed_s > _ANEW_S):
            self._handed_s = time.monotonic()
            self._hand_over(self._client)
        if trouble and trouble != self._trouble:
            render.say(f"runner: {trouble}")
        self._trouble = trouble

    def _asking(self, ask: Callable[[], Any]) -> Any:
        """A controller that went away is waited for, and may be a new one."""
        client = self._client
        return outlast(ask, lambda: self._again(client), lambda: self._hand_over(client), self._until_s)

    def take_back(self) -> None:
        """Cancel all of them; a runner that was given a job meanwhile ends with that."""
        client = self._client.another()
        gone, left = insist(self.sent, lambda job_id: cancel(client, job_id), lambda _: True)
        if gone:
            render.say(f"runner: cancelled {', '.join(gone)}")
        if left:
            render.say(f"runner: could not cancel {', '.join(left)}; idle runners go by themselves")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, a signal raises Interrupted, once; afterwards signals are let pass, so that what follows is done."""

    def interrupted(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    before = {number: signal.signal(number, interrupted) for number in _SIGNALS}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
