"""CI jobs that wait, kept as they were read last: each look reads what has changed since, and not all that waits.

Every change of a row takes the next number of one count, under the lock of these tables' writers; so whoever has seen a
number has seen all below it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from threading import Lock

from sqlalchemy import Connection, Integer, RowMapping, String, and_, bindparam, cast, insert, select, update

from provisioner.domain.demand import UNSEEN, KnownJob
from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site

from . import codec
from .schema import ci_jobs, meta
from .sql import Database

TOLD = ("run_id", "name", "url", "ref", "runner_name", "conclusion")
WAITS = and_(ci_jobs.c.state == str(CiJobState.QUEUED), ci_jobs.c.unseen < UNSEEN)
_ALL = select(ci_jobs).where(WAITS)
_CHANGED = select(ci_jobs).where(ci_jobs.c.changed > bindparam("seen")).order_by(ci_jobs.c.changed)
_COUNT = "ci_jobs.changed"
_LAST = select(cast(meta.c.value, Integer)).where(meta.c.key == _COUNT)
_NEXT = (
    update(meta)
    .where(meta.c.key == _COUNT)
    .values(value=cast(cast(meta.c.value, Integer) + 1, String))
    .returning(meta.c.value)
)
_Key = tuple[str, str, int]


class WaitingKept:
    """What one controller has read of them. Its threads take turns."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lock = Lock()
        self._undone = 0
        self._seen: int | None = None
        self._rows: dict[_Key, KnownJob] = {}
        self._in_order: list[KnownJob] = []

    def read(self, connection: Connection, since: datetime) -> tuple[KnownJob, ...]:
        """Those seen after `since`, oldest first."""
        with self._lock:
            if self._undone != self._db.undone:
                self._undone, self._seen = self._db.undone, None
            if self._seen is None:
                self._seen, self._rows = connection.scalar(_LAST) or 0, {}
                rows = connection.execute(_ALL).mappings().all()
            else:
                rows = connection.execute(_CHANGED, {"seen": self._seen}).mappings().all()
                self._seen = rows[-1]["changed"] if rows else self._seen
            self._learn(rows)
            return tuple(known for known in self._in_order if known.seen_at > since)

    def forget(self) -> None:
        """Read all of them again, next time."""
        with self._lock:
            self._seen = None

    def _learn(self, rows: Sequence[RowMapping]) -> None:
        for row in rows:
            known = decoded(row)
            if known.job.state is CiJobState.QUEUED and known.unseen < UNSEEN:
                self._rows[known.job.key] = known
            else:
                self._rows.pop(known.job.key, None)
        if rows or len(self._rows) != len(self._in_order):
            self._in_order = sorted(self._rows.values(), key=lambda known: (known.job.created_at, known.job.key))


def next_change(connection: Connection) -> int:
    """The number of a change that is about to be made. Callers hold the lock of these tables' writers."""
    told = connection.scalar(_NEXT)
    if told is None:
        connection.execute(insert(meta).values(key=_COUNT, value="1"))
    return int(told or 1)


def decoded(row: RowMapping) -> KnownJob:
    return KnownJob(_job(row), codec.when(row["seen_at"]), row["unseen"], row["refused"])


def _job(row: RowMapping) -> CiJob:
    return CiJob(
        id=row["job_id"],
        site=Site(ForgeKind(row["kind"]), row["base"], row["path"]),
        repository=row["repository"],
        state=CiJobState(row["state"]),
        labels=tuple(json.loads(row["labels"])),
        created_at=codec.when(row["created_at"]),
        attempt=row["attempt"],
        fork=None if row["fork"] is None else bool(row["fork"]),
        **{name: row[name] for name in TOLD},
    )
