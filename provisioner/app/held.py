"""The Keys port: one provider's credentials in this process's memory, and nowhere else.

They belong to one account at a time, by identity within it; the ones handed over last are used while they last. The
provider's adapter asks from its threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from provisioner.domain.credentials import Credentials, Identity
from provisioner.domain.errors import Unauthorized
from provisioner.domain.ports import Clock

_NONE_YET = "no credentials were handed over since the controller started, which keeps them in memory only"
_AGAIN = "log in if need be, then `runner gc` hands them over"


class Held:
    """`lost()` is called, in whatever thread, when the cloud says that the ones in use are over."""

    def __init__(self, provider: str, clock: Clock, lost: Callable[[], None] = lambda: None) -> None:
        self._provider = provider
        self._clock = clock
        self._lost = lost
        self._lock = threading.Lock()
        self._of: dict[Identity, Credentials] = {}
        self._why = _NONE_YET

    def hold(self, identity: Identity, credentials: Credentials) -> None:
        """From now on these are used; those of any other account are forgotten."""
        with self._lock:
            self._of = {known: kept for known, kept in self._of.items() if known.account == identity.account}
            self._of.pop(identity, None)
            self._of[identity] = credentials

    def whose(self, credentials: Credentials) -> Identity | None:
        """The identity under which exactly these are held already."""
        with self._lock:
            return next((identity for identity, kept in self._of.items() if kept == credentials), None)

    def current(self) -> Credentials:
        found = self._in_use()
        if found is None:
            raise Unauthorized(self.paused)
        return found[1]

    def expired(self, credentials: Credentials) -> None:
        with self._lock:
            before = len(self._of)
            self._of = {identity: kept for identity, kept in self._of.items() if kept is not credentials}
            if len(self._of) == before:
                return
            self._why = "its credentials have expired"
        self._lost()

    @property
    def identity(self) -> Identity | None:
        """Whose are in use."""
        found = self._in_use()
        return found[0] if found else None

    @property
    def paused(self) -> str:
        """Why nothing can be asked of the provider, and what to do; "" while it can."""
        if self._in_use() is not None:
            return ""
        return f"{self._provider} is paused: {self._why}; {_AGAIN}"

    @property
    def until(self) -> datetime | None:
        """When the last of them ends; None for never, or nobody knows. Raises: Unauthorized while there are none."""
        self.current()
        with self._lock:
            ends = [credentials.expires_at for credentials in self._of.values()]
        return None if None in ends else max(end for end in ends if end is not None)

    def _in_use(self) -> tuple[Identity, Credentials] | None:
        now = self._clock.now()
        with self._lock:
            for identity, kept in reversed(list(self._of.items())):
                if kept.expires_at is None or kept.expires_at > now:
                    return identity, kept
                del self._of[identity]
                self._why = f"its credentials expired at {kept.expires_at:%H:%M:%S} UTC"
        return None
