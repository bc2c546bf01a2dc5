"""Whether this controller does its work: the age of the last good pass, and who has waited longest."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from .services import Services

_STALE_S = 60.0  # arbitrary: six times the default pace of listings
_FRESH_S = 1.0
_SPARE_FILES = 8  # arbitrary: what one pass may open at a time


class Health:
    """Asked often and by anybody, so the queue is looked at once a second at most."""

    def __init__(self, services: Services, version: str) -> None:
        self._services = services
        self._version = version
        self._began_s = services.clock.monotonic()
        self._asked_s = -_FRESH_S
        self._oldest_s = 0.0

    async def look(self) -> tuple[int, dict[str, Any]]:
        """Status and body: 503 when the last pass is too old, or there never was one, or no files can be opened."""
        age_s = self.last_pass_age_s()
        short = _short_of_files()
        ok = not short and (age_s if age_s is not None else self._waited_s()) <= _STALE_S
        body: dict[str, Any] = {
            "ok": ok,
            "last_pass_age_s": age_s,
            "oldest_waiting_s": await self.oldest_waiting_s(),
            "version": self._version,
        }
        if demand := self._demand():
            body["demand"] = demand
        if paused := dict(self._services.paused()):
            body["paused"] = paused
        if warnings := list(self._services.warnings()):
            body["warnings"] = warnings
        if error := short or self._error():
            body["error"] = error
        return 200 if ok else 503, body

    def _demand(self) -> dict[str, Any]:
        """For whoever asks, token or not: ages by what kind of source it is, the oldest of each, and no names."""
        waiting, ages = self._services.demand.waiting(), dict[str, float | None]()
        for source in waiting.sources:
            kind = source.name.partition(" ")[0]
            before = ages.get(kind, 0.0)
            ages[kind] = None if before is None or source.age_s is None else max(before, source.age_s)
        return {"oldest_queued_s": waiting.oldest_s, "last_success_age_s": ages} if waiting.sources else {}

    def _error(self) -> str:
        """What the engine broke on since its last good pass."""
        trouble, at = self._services.trouble(), self._services.desk.last_pass_at
        return trouble[1] if trouble is not None and (at is None or trouble[0] > at) else ""

    def _waited_s(self) -> float:
        return self._services.clock.monotonic() - self._began_s

    def last_pass_age_s(self) -> float | None:
        at = self._services.desk.last_pass_at
        return None if at is None else max(0.0, (self._services.clock.now() - at).total_seconds())

    async def oldest_waiting_s(self) -> float:
        now_s = self._services.clock.monotonic()
        if now_s - self._asked_s >= _FRESH_S:
            self._asked_s = now_s
            waiting = await self._services.store.jobs.waiting(limit=1000)
            now = self._services.clock.now()
            self._oldest_s = max((round((now - job.created_at).total_seconds(), 3) for job in waiting), default=0.0)
        return self._oldest_s


def _short_of_files() -> str:
    """Without files to open nothing is launched, heard or ended, although passes go on."""
    with contextlib.ExitStack() as spare:
        try:
            for _ in range(_SPARE_FILES):
                spare.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            return f"{error.strerror}: raise the limit on open files (`ulimit -n`) and start it again"
    return ""
