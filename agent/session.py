"""The loop that says what is and hears what ought to be; what differs is marked for the duty whose work it is.

Level-triggered: each `Sync` tells of every attempt, each `Ought` of every attempt that is wanted. An attempt that is
not in the answer is not wanted. No answer means nothing at all.
"""

from __future__ import annotations

import time
from typing import Optional

from . import wire, workload
from .attempt import Attempt, safe
from .duties import Turn
from .join import join
from .link import Backoff, Interrupted, Refused, Unreachable
from .machine import Machine
from .say import say

_SYNC = "/agent/v1/sync"
_TOO_SOON_S = 0.05
_TESTED_S = 1.0
_ALONE_S = 600.0  # arbitrary: the longest pause of one that nobody looks after
_RANK = {"": 0, "kindly": 1, "now": 2}


class Session:
    """`run` is the duty. `seen` is the version of the last Ought that was acted on."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._poll_s = machine.config.poll_s
        self._seen = -1

    def run(self, turn: Turn) -> None:
        backoff, alone = Backoff(0.1, 15.0), Backoff(0.5, _ALONE_S)
        self._join(turn, backoff)
        while not turn.over and not self._machine.tested:
            turn.wait(_TESTED_S)
        while not turn.over:
            turn.news.clear()
            try:
                self._once(turn, backoff)
            except Interrupted:
                continue
            except (Unreachable, Refused) as error:
                if self._machine.handed.over is not None:
                    turn.wait(alone.next())  # nobody answers, or a controller that has to hear of it once more
                    continue
                say("sync.failed", error=str(error))
                turn.wait(backoff.next())

    def _join(self, turn: Turn, backoff: Backoff) -> None:
        machine = self._machine
        while not machine.link.session and not turn.over:
            try:
                machine.link.session = join(machine.home, machine.config, machine.link, machine.facts)
                machine.heard()
                say("machine.joined", instance=machine.config.instance)
            except (Unreachable, Refused) as error:
                say("join.failed", error=str(error))
                turn.wait(backoff.next())
        backoff.reset()

    def _once(self, turn: Turn, backoff: Backoff) -> None:
        began = time.monotonic()
        ought = self._machine.link.poll(_SYNC, self.what_is(), wire.Ought, self._poll_s, turn.news)
        self._machine.heard()
        repeated = ought.version == self._seen
        self.apply(ought)
        if repeated and time.monotonic() - began < _TOO_SOON_S:
            turn.wait(backoff.next())
        else:
            backoff.reset()

    def what_is(self) -> wire.Sync:
        machine = self._machine
        attempts = machine.attempts
        unsent = machine.unsent_bytes
        return wire.Sync(
            boot_id=workload.boot_id(),
            seen=self._seen,
            wait_s=self._poll_s,
            healthy=not machine.unhealthy,
            unhealthy_why=machine.unhealthy,
            unhealthy_code=machine.unhealthy_code,
            drained=not attempts and not unsent,
            notice=machine.notice,
            unsent_bytes=unsent,
            attempts=[attempt.said() for attempt in attempts],
            sequence=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            handed_over=machine.handed.over,
        )

    def apply(self, ought: wire.Ought) -> None:
        """Mark what is to be done. Applying it twice changes nothing."""
        machine = self._machine
        listed = {f"{one.job}/{one.number}": one for one in ought.attempts}
        for key, one in listed.items():
            attempt = machine.attempt(key) or self._accept(one)
            if attempt is not None:
                self._mark(attempt, one)
        for attempt in machine.attempts:
            if attempt.key not in listed and not attempt.forget:
                say("attempt.unwanted", attempt=attempt.key)
                attempt.cancel, attempt.forget = "now", True
        machine.link.use(ought.urls)
        self._poll_s = min(machine.config.poll_s, ought.poll_s)
        self._seen = ought.version
        if ought.hand_over is not None:
            self._take_over(ought.hand_over)
        machine.duties.wake("tend", "prepare", "logs")
        if ought.end:
            machine.end("the controller asked for it")

    def _take_over(self, order: wire.HandOver) -> None:
        """Told at once; one that cannot be taken is asked for again when something about its attempt has changed."""
        machine = self._machine
        if machine.handed.take(order, machine.attempt(f"{order.job}/{order.number}")):
            say("machine.handed_over", attempt=f"{order.job}/{order.number}", idle_s=order.idle_s, job_s=order.job_s)
            machine.duties.wake("deadman", "session")

    def _accept(self, one: wire.AttemptOught) -> Optional[Attempt]:
        """An attempt that we do not have. One that is over before it began is answered for all the same."""
        if one.forget:
            return None
        order = one.order or wire.Order(one.job, one.number, run=[])
        if (one.order is None and not one.cancel) or not safe(order):
            say("order.refused", attempt=f"{one.job}/{one.number}", has_order=one.order is not None)
            return None
        attempt = Attempt(self._machine.home, order)
        attempt.create()
        self._machine.add(attempt)
        say("attempt.accepted", attempt=attempt.key)
        return attempt

    def _mark(self, attempt: Attempt, one: wire.AttemptOught) -> None:
        if _RANK.get(one.cancel, 2) > _RANK[attempt.cancel]:
            say("attempt.cancel_asked", attempt=attempt.key, how=one.cancel)
            attempt.cancel = one.cancel if one.cancel in _RANK else "now"
        attempt.forget = attempt.forget or one.forget
        attempt.log_safe = max(attempt.log_safe, one.log_safe)
