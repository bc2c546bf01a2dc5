"""What a session opens: its own instance's attempts, and of those only what they were given.

Who an attempt belongs to never changes, so it is remembered; whether it is still live is asked each time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

from provisioner.domain.errors import Conflict, Forbidden, NotFound, Unauthenticated
from provisioner.domain.job import Attempt, AttemptPhase, Job

from .services import Services
from .submit import JOB_ID

_SESSIONS, _ATTEMPTS = 20_000, 20_000  # remembered at most; arbitrary
_TOKEN_LENGTH = 3 + 64
_LAST = 10**6  # attempt of a job; arbitrary
K = TypeVar("K")
V = TypeVar("V")


class Remembered(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was not asked for the longest."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def recall(self, key: K) -> V | None:
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Owned:
    """What never changes of an attempt."""

    instance_id: str
    log_limit_bytes: int


class AgentAccess:
    """Sessions and ownership, cached: an idle agent's sync costs no query."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions: Remembered[str, str] = Remembered(_SESSIONS)
        self._attempts: Remembered[tuple[str, int], Owned] = Remembered(_ATTEMPTS)

    async def join(self, instance_id: str, token: str, nonce: str) -> str:
        """The session of this pair. Raises: Forbidden when another nonce came first, or the token is no good."""
        message = f"{instance_id}|{nonce}".encode()
        session = "rs_" + hmac.new(self._services.session_key, message, hashlib.sha256).hexdigest()
        hashes = (_sha256(token), _sha256(nonce), _sha256(session))
        await self._services.store.records.join(instance_id, *hashes, self._services.clock.now())
        self._sessions.keep(session, instance_id)
        return session

    async def instance(self, request: Request) -> str:
        """Whose session it is. Raises: Unauthenticated."""
        session = request.headers.get("authorization", "").removeprefix("Bearer ")
        if (instance_id := self._sessions.recall(session)) is not None:
            return instance_id
        known = None
        if session.startswith("rs_") and len(session) == _TOKEN_LENGTH:
            known = await self._services.store.records.session(_sha256(session))
        if known is None:
            raise Unauthenticated("this session is not known", hint="join first")
        self._sessions.keep(session, known)
        return known

    async def owned(self, instance_id: str, job_id: str, number: int) -> Owned:
        """An attempt of this instance, live or ended. Raises: NotFound, Forbidden."""
        if not 1 <= number <= _LAST:
            raise NotFound("no such attempt")
        known = self._attempts.recall((job_id, number))
        if known is None:
            job = await self._job(job_id)
            attempt = await self._services.store.jobs.attempt(job_id, number)
            known = Owned(attempt.instance_id, job.spec.log_limit_bytes)
            self._attempts.keep((job_id, number), known)
        if known.instance_id != instance_id:
            raise Forbidden(f"attempt {job_id}/{number} is another machine's")
        return known

    async def live(self, instance_id: str, job_id: str, number: int) -> tuple[Job, Attempt]:
        """Raises: Conflict when it has ended, and what `owned` raises."""
        await self.owned(instance_id, job_id, number)
        attempt = await self._services.store.jobs.attempt(job_id, number)
        if attempt.phase is AttemptPhase.ENDED:
            raise Conflict(f"attempt {attempt.key} has ended")
        return await self._job(job_id), attempt

    async def live_of_job(self, instance_id: str, job_id: str) -> tuple[Job, Attempt]:
        """The live attempt of a job on this instance. Raises: NotFound, Forbidden, Conflict."""
        job = await self._job(job_id)
        return await self.live(instance_id, job_id, job.attempts)

    async def _job(self, job_id: str) -> Job:
        """By id only, never by prefix or name."""
        if not JOB_ID.fullmatch(job_id):
            raise NotFound("no such job")
        job = await self._services.store.jobs.get(job_id)
        if job.id != job_id:
            raise NotFound("no such job")
        return job


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
