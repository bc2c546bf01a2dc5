"""Webhooks of fake forges: really sent, each recorded as a delivery that can be sent again. What goes wrong on the way
is drawn from a seed."""

from __future__ import annotations

import json
import queue
import random
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Hook:
    """`place` is "acme/vision", "acme" for all below it, or "" for all there is."""

    id: int
    place: str
    url: str
    secret: str
    events: tuple[str, ...]


@dataclass
class Sent:
    """A delivery. `status` 0: nothing answered, or it was lost on its way."""

    id: int
    hook: Hook
    guid: str
    event: str
    action: str
    body: bytes
    delivered_at: datetime
    redelivery: bool = False
    status: int = 0


@dataclass
class Mischief:
    """Shares of deliveries that are lost (recorded as failed), sent twice, or held until the next was sent."""

    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0
    seed: int = 0
    lost: int = 0
    doubled: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def fate(self) -> str:
        roll = self._dice.random()
        for name, share in (("lose", self.lose), ("double", self.double), ("late", self.late)):
            if roll < share:
                return name
            roll -= share
        return ""


@dataclass
class Hooks:
    """One forge's. `headers`: what it sends along, its signature among them; `events`: those that a hook is told of
    unless it says which. A single thread sends, so that without mischief the order is the order of things."""

    next_id: Callable[[], int]
    now: Callable[[], datetime]
    headers: Callable[[Sent], dict[str, str]]
    events: tuple[str, ...]
    hooks: list[Hook] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    mischief: Mischief = field(default_factory=Mischief)
    timeout_s: float = 10.0
    _queue: queue.Queue[Sent | None] = field(default_factory=queue.Queue)
    _held: list[Sent] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def add(self, place: str, url: str, secret: str, events: tuple[str, ...] = ()) -> Hook:
        made = Hook(self.next_id(), place, url, secret, events or self.events)
        self.hooks.append(made)
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, daemon=True)
            self._thread.start()
        return made

    def tell(self, event: str, action: str, repository: str, payload: Callable[[], Any]) -> None:
        for hook in self.hooks:
            if f"{repository}/".startswith(hook.place + "/" if hook.place else "") and event in hook.events:
                body = json.dumps(payload()).encode()
                self._put(Sent(self.next_id(), hook, str(uuid.uuid4()), event, action, body, self.now()))

    def again(self, old: Sent) -> None:
        """A redelivery: the same GUID under a new id. It meets no mischief."""
        made = Sent(self.next_id(), old.hook, old.guid, old.event, old.action, old.body, self.now(), True)
        self.sent.append(made)
        self._queue.put(made)

    def of(self, hook: Hook) -> list[Sent]:
        """Newest first."""
        return [one for one in reversed(self.sent) if one.hook is hook]

    def settle(self) -> None:
        """Until everything was sent, what was held back too."""
        while self._held:
            self._queue.put(self._held.pop())
        self._queue.join()

    def stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=self.timeout_s)
            self._thread = None

    def _put(self, made: Sent) -> None:
        self.sent.append(made)
        fate = self.mischief.fate()
        if fate == "lose":
            self.mischief.lost += 1
            return
        if fate == "late":
            self._held.append(made)
            return
        self._queue.put(made)
        if fate == "double":
            self.mischief.doubled += 1
            self._queue.put(made)
        while self._held:
            self._queue.put(self._held.pop())

    def _send_all(self) -> None:
        while (one := self._queue.get()) is not None:
            one.status = self._post(one)
            self._queue.task_done()
        self._queue.task_done()

    def _post(self, one: Sent) -> int:
        request = urllib.request.Request(one.hook.url, one.body, self.headers(one))
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
