"""The way to the controller: a list of base URLs, tried in turn, and one session token.

Each thread keeps its own connections alive. Requests are safe to repeat (the protocol is level-triggered, log bytes
have offsets, objects are named by content), so one that fails on an old connection is sent again on a new one.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any, Callable, Optional, TypeVar

from . import http1, wire
from .http1 import Address, Body, Connection, Head

T = TypeVar("T")
AGAIN = frozenset({408, 425, 429})  # statuses that are about this moment, not about what was asked


class Unreachable(OSError):
    """Nobody answered, or answered that something is wrong at their side: ask again later."""


class Refused(Exception):
    """The answer is no, and will be no again. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Interrupted(Exception):
    """The wait was ended from our side."""


class Backoff:
    """Growing pauses with jitter, in seconds; `reset` after a success."""

    def __init__(self, least: float = 0.1, most: float = 15.0) -> None:
        self._least = least
        self._most = most
        self._next = least

    def reset(self) -> None:
        self._next = self._least

    def next(self) -> float:
        now, self._next = self._next, min(self._most, self._next * 2)
        return now * random.uniform(0.5, 1.0)


class Link:
    """`session` is set once the machine has joined; `answer_s` is what the controller may take for an answer."""

    def __init__(self, urls: list[str], ca_pem: str = "", session: str = "", answer_s: float = 30.0) -> None:
        """Raises: ValueError for a URL that nothing can be sent to."""
        self.session = session
        self._ca_pem = ca_pem
        self._answer_s = answer_s
        self._places = [http1.address(url) for url in urls]
        self._turn = 0
        self._kept = threading.local()
        self._polling: Optional[Connection] = None
        self._lock = threading.Lock()
        self._contexts: dict[bool, Any] = {}

    def use(self, urls: list[str]) -> None:
        """The controller's own list, from an Ought; an unusable one is passed over."""
        with contextlib.suppress(ValueError):
            places = [http1.address(url) for url in urls]
            if places and places != self._places:
                self._places, self._turn = places, 0

    def call(self, path: str, message: Any, kind: type[T]) -> T:
        """Post a message, get one. Raises: Unreachable, Refused."""
        return _decoded(kind, self.ask("POST", path, wire.encode(message)))

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Each URL is tried once. Raises: Unreachable, Refused."""
        for left in range(len(self._places) - 1, -1, -1):
            try:
                with self.exchange(method, path, {}, body, timeout_s=self._answer_s) as (_, connection):
                    return connection.body()
            except Unreachable:
                if not left:
                    raise
        raise Unreachable("no URL to try")

    def poll(self, path: str, message: Any, kind: type[T], wait_s: float, news: threading.Event) -> T:
        """A long poll that `interrupt` ends early. Raises: Interrupted, Unreachable, Refused."""

        def waiting(connection: Connection) -> None:
            with self._lock:
                self._polling = connection
            if news.is_set():
                raise Interrupted

        timeout_s = wait_s + self._answer_s
        try:
            with self.exchange("POST", path, {}, wire.encode(message), timeout_s=timeout_s, waiting=waiting) as got:
                return _decoded(kind, got[1].body())
        except Unreachable as error:
            if news.is_set():
                raise Interrupted from error
            raise
        finally:
            with self._lock:
                self._polling = None

    def interrupt(self) -> None:
        with self._lock:
            if self._polling is not None:
                self._polling.interrupt()

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Body = b"",
        *,
        size: int = -1,
        timeout_s: float = 120.0,
        waiting: Optional[Callable[[Connection], None]] = None,
    ) -> Iterator[tuple[Head, Connection]]:
        """One request; its answer's body is still to be read. Raises: Unreachable, Refused.

        A `url` that starts with "/" is the controller's and carries our session; any other gets only `headers`. A
        controller that does not know the session has no word in what was asked: it is as good as unreachable.
        """
        ours = url.startswith("/")
        place, target = (self._place(), url) if ours else http1.split(url)
        if ours and self.session:
            headers = {"authorization": f"Bearer {self.session}", **headers}
        connection: Optional[Connection] = None
        try:
            connection, head = self._sent(place, timeout_s, (method, target, headers, body, size), waiting)
            _judge(head, connection, ours)
            yield head, connection
        except OSError as error:
            self._turn += ours
            raise error if isinstance(error, Unreachable) else Unreachable(f"{place.authority}: {error}") from error
        finally:
            if connection is not None:
                self._keep(connection)

    def open(self) -> Connection:
        """A connection of one's own to the controller. Raises: Unreachable."""
        place = self._place()
        try:
            return Connection(place, self._answer_s, self._context(place, ours=True))
        except OSError as error:
            self._turn += 1
            raise Unreachable(f"{place.authority}: {error}") from error

    def _place(self) -> Address:
        places = self._places
        return places[self._turn % len(places)]

    def _sent(
        self,
        place: Address,
        timeout_s: float,
        request: tuple[Any, ...],
        waiting: Optional[Callable[[Connection], None]],
    ) -> tuple[Connection, Head]:
        """Send and wait for the answer's head, on a kept connection first: it may have been closed meanwhile."""
        connection = self._kept_one(place, timeout_s)
        while True:
            connection = connection or Connection(place, timeout_s, self._context(place, place in self._places))
            try:
                connection.send(*request)
                if waiting is not None:
                    waiting(connection)
                return connection, connection.head(request[0])
            except OSError as error:
                connection.close()
                if not connection.used or isinstance(error, socket.timeout):
                    raise
                connection = None
            except BaseException:
                connection.close()
                raise

    def _kept_one(self, place: Address, timeout_s: float) -> Optional[Connection]:
        connection: Optional[Connection] = getattr(self._kept, "by_place", {}).pop(place, None)
        if connection is not None:
            connection.timeout(timeout_s)
        return connection

    def _keep(self, connection: Connection) -> None:
        """For this thread's next request to the same place, if all of its last answer has been read."""
        if not connection.finished or not connection.reusable:
            connection.close()
            return
        if not hasattr(self._kept, "by_place"):
            self._kept.by_place = {}
        self._kept.by_place[connection.place] = connection

    def _context(self, place: Address, ours: bool) -> Any:
        """The TLS context: our controller's pinned authority, or the roots that the machine trusts."""
        if place.scheme != "https":
            return None
        pinned = ours and bool(self._ca_pem)
        if pinned not in self._contexts:
            import ssl

            self._contexts[pinned] = ssl.create_default_context(cadata=self._ca_pem if pinned else None)
        return self._contexts[pinned]


def _judge(head: Head, connection: Connection, ours: bool) -> None:
    """Raises: Refused for what will not change by asking again, Unreachable for what may."""
    if head.status < 400:
        return
    said = http1.reason(connection.body())
    if head.status >= 500 or head.status in AGAIN or (ours and head.status == 401):
        raise Unreachable(f"{connection.place.authority}: {head.status} {said}")
    raise Refused(head.status, said)


def _decoded(kind: type[T], data: bytes) -> T:
    try:
        return wire.decode(kind, data)
    except ValueError as error:
        raise Unreachable(f"an answer that cannot be read: {error}") from error
