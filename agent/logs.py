"""The log's way from the spools to the controller: several chunks under way, resent from where the answer says.

Bytes are addressed by offset, so that sending them twice does no harm and a gap cannot be missed. The spool is freed up
to what the controller calls safe, never further.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Optional

from . import http1, wire
from .attempt import Attempt
from .duties import Turn
from .http1 import Connection
from .link import AGAIN, Backoff, Refused, Unreachable
from .machine import Machine
from .say import say
from .watch import Watch

CHUNK = 2**20
DEPTH = 4
_SPANS = 40_000  # about as many bytes of index as of data
_TURN_BYTES = 32 * CHUNK  # then the next attempt has its turn
_LIVELY_S, _CALM_S, _UNSAFE_S = 0.015, 0.04, 0.1
_CALM_AFTER_S = 2.0
_ASLEEP_S = 5.0
_ALONE_S = 1.0  # arbitrary: how often what nobody takes any more is dropped, so that no spool fills


class Logs:
    """`run` is the duty. One connection for all attempts, its answers read in the order of the requests."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pipe: Optional[Connection] = None
        self._next: dict[str, int] = {}
        self._refusals: dict[str, Backoff] = {}
        self._not_before: dict[str, float] = {}
        self._moved_at = 0.0
        self._watch = Watch(machine.signals, once=True)

    def run(self, turn: Turn) -> None:
        self._next.clear()
        backoff = Backoff(0.1, 5.0)
        try:
            while not turn.over:
                try:
                    moved = [self._patiently(attempt) for attempt in self._machine.attempts if _wants(attempt)]
                    backoff.reset()
                except OSError as error:
                    self._drop_pipe()
                    if self._machine.handed.over is not None:
                        self._drop_bytes()
                        turn.wait(_ALONE_S)
                        continue
                    say("log.not_sent", error=str(error))
                    turn.wait(backoff.next())
                    continue
                if any(moved):
                    self._moved_at = time.monotonic()
                turn.wait(self._pause())
        finally:
            self._drop_pipe()

    def _pause(self) -> float:
        attempts = [attempt for attempt in self._machine.attempts if _wants(attempt)]
        if not attempts:
            return 60.0
        if not any(attempt.producing for attempt in attempts):
            return _UNSAFE_S
        if time.monotonic() - self._moved_at < _CALM_AFTER_S:
            return _LIVELY_S
        asleep = all(attempt.producing for attempt in attempts)
        asleep = asleep and self._watch.settled([attempt.spool.folder for attempt in attempts])
        return _ASLEEP_S if asleep else _CALM_S

    def _patiently(self, attempt: Attempt) -> bool:
        """A refusal is this attempt's alone, and never the end: its bytes are kept, and offered again and again."""
        key = attempt.key
        if time.monotonic() < self._not_before.get(key, 0.0):
            return False
        try:
            moved = self.once(attempt)
        except Refused as error:
            say("log.refused", attempt=key, why=str(error))
            self._drop_pipe()
            attempt.log_trouble = str(error)
            self._not_before[key] = time.monotonic() + self._refusals.setdefault(key, Backoff(0.1, 5.0)).next()
            return False
        attempt.log_trouble = ""
        self._refusals.pop(key, None)
        return moved

    def once(self, attempt: Attempt) -> bool:
        """Send what is there. Whether there was anything. Raises: OSError when the controller cannot be reached,
        Refused when it does not want this attempt's log."""
        if attempt.key not in self._next:
            self._begin(attempt)
        size = attempt.spool.size()
        if attempt.log_lost:
            return False
        if self._next.get(attempt.key, 0) < size:
            self._send(attempt, size)
        elif attempt.exit is not None and attempt.log_safe < attempt.exit["log_size"]:
            self._ask(attempt)
        else:
            return False
        attempt.spool.free(attempt.log_safe)
        if attempt.exit is not None and attempt.log_safe >= attempt.exit["log_size"]:
            self._machine.duties.wake("tend")
        return True

    def _begin(self, attempt: Attempt) -> None:
        """Where the controller says that it is."""
        received = self._ask(attempt)
        if received < attempt.spool.start():
            self._lost(attempt, f"the controller has {received} bytes, freed here up to {attempt.spool.start()}")
        self._next[attempt.key] = received

    def _ask(self, attempt: Attempt) -> int:
        offset = self._next.get(attempt.key, attempt.spool.start())
        self._post(attempt, offset, wire.pack_log([], b""))
        return self._answer(attempt)

    def _send(self, attempt: Attempt, size: int) -> None:
        """Keep `DEPTH` chunks under way until `size` is reached, a turn is over, or the answer points elsewhere."""
        at, until = self._next[attempt.key], self._next[attempt.key] + _TURN_BYTES
        under_way: deque[int] = deque()
        received = at
        while under_way or at < min(size, until):
            while len(under_way) < DEPTH and at < min(size, until):
                spans, data = _chunk(attempt, at)
                if not data:
                    until = at
                    break
                self._post(attempt, at, wire.pack_log(spans, data))
                at += len(data)
                under_way.append(at)
            if not under_way:
                break
            expected = under_way.popleft()
            received = self._answer(attempt)
            if received != expected and (attempt.log_lost or received < expected or not under_way):
                at = until = received
        self._next[attempt.key] = received

    def _post(self, attempt: Attempt, offset: int, body: bytes) -> None:
        link = self._machine.link
        if self._pipe is None:
            self._pipe = link.open()
        headers = {"authorization": f"Bearer {link.session}", "content-type": "application/octet-stream"}
        path = f"/agent/v1/log/{attempt.order.job}/{attempt.order.number}?offset={offset}"
        self._pipe.send("POST", path, headers, body)

    def _answer(self, attempt: Attempt) -> int:
        """The next answer's `received`. Raises: OSError, Refused."""
        if self._pipe is None:
            raise Unreachable("the controller closed the connection")
        head = self._pipe.head()
        body = self._pipe.body()
        if not self._pipe.reusable:
            self._drop_pipe()
        if head.status in AGAIN or head.status >= 500:
            raise Unreachable(f"{head.status} {http1.reason(body)}")
        if head.status >= 400:
            raise Refused(head.status, http1.reason(body))
        try:
            ack = wire.decode(wire.LogAck, body)
        except ValueError as error:
            raise Unreachable(str(error)) from error
        if ack.refused:
            self._lost(attempt, ack.refused)
        attempt.log_received = ack.received
        attempt.log_safe = max(attempt.log_safe, ack.safe)
        return ack.received

    def _lost(self, attempt: Attempt, why: str) -> None:
        """The rest will never be taken."""
        attempt.log_lost = why
        say("log.lost", attempt=attempt.key, why=why)

    def _drop_bytes(self) -> None:
        """Nobody is there any more to take them: the forge has its job's log, and this is of its program only."""
        for attempt in self._machine.attempts:
            if _wants(attempt):
                size = attempt.exit["log_size"] if attempt.exit is not None else attempt.spool.size()
                attempt.log_safe = max(attempt.log_safe, size)
                attempt.spool.free(attempt.log_safe)
        self._machine.duties.wake("tend")

    def _drop_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._next.clear()


def _chunk(attempt: Attempt, at: int) -> tuple[list[wire.LogSpan], bytes]:
    """The next bytes with their index, neither of them larger than a controller takes at once."""
    spans, data = attempt.spool.read(at, CHUNK)
    if len(spans) > _SPANS:
        spans = spans[:_SPANS]
        data = data[: spans[-1][0] + spans[-1][1] - at]
    return spans, data


def _wants(attempt: Attempt) -> bool:
    return not attempt.ended and not attempt.forget and not attempt.log_lost and attempt.mark is not None
