"""A third way to hear of CI jobs, beside webhooks and polls: a queue that the forge keeps for one pool.

What it tells is kept there until it is confirmed, which is done only when the jobs are stored: whoever dies in between
is told again. It is news, not truth: a queue that is silent or wrong strands nobody, since polls go on beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .forge import CiJob


@dataclass(frozen=True, slots=True)
class Batch:
    """What a queue tells at once. `jobs` are as the forge has them now, which may be later than what is told of.

    `id` "": there is nothing to confirm. `waiting`: how many jobs of the pool wait for a runner by the queue's own
    count; None where it does not say. `unread`: something in it is not understood, and the forge has to be asked."""

    id: str
    jobs: tuple[CiJob, ...] = ()
    waiting: int | None = None
    unread: bool = False


class JobQueue(Protocol):
    """An open queue.

    - Q1 what `next` told is told again, to whoever opens the queue next, until it was confirmed; what was confirmed is
      not, and confirming it once more is success.
    - Q2 jobs have the ids under which webhooks and `Forge.queued` tell of them; others of the same run may be told.
    - Q3 it is open once: who else opens it is ForgeThrottled, and whoever has it is not disturbed. One that was closed,
      or whose holder has died, can be opened again, the second after a while.
    - Q4 rights that end while it is open are renewed by itself.
    - Q5 only ForgeError comes out, and no credential is in its text. After one, the queue is to be closed.
    - Q6 cancelling `next` loses nothing.
    """

    async def next(self, room: int) -> Batch | None:
        """Waits until there is something, for a minute at most, and None when there was not. `room`: the most runners
        that the pool may have."""
        ...

    async def confirm(self, batch: Batch) -> None: ...
    async def close(self) -> None: ...


class OpensQueue(Protocol):
    """What a pool is given whose forge keeps a queue for it."""

    async def open(self) -> JobQueue:
        """Makes at the forge what is missing there for it. Raises: ForgeError."""
        ...
