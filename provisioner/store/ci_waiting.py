"""CI jobs that wait, kept as they were read last: each look reads what has changed since, and not all that waits.

Every change of a row takes the next number of one count, under the lock of these tables' writers; so whoever has seen a
number has seen all below it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Connection, RowMapping, String, and_, bindparam, cast, insert, select, update

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
_LAST = select(cast(meta.c.value, BigInteger)).where(meta.c.key == _COUNT)
_NEXT = (
    update(meta)
    .where(meta.c.key == _COUNT)
    .values(value=cast(cast(meta.c.value, BigInteger) + 1, String))
    .returning(meta.c.value)
)
_WHOLE_EVERY = timedelta(minutes=1)  # what takes no numbers, such as an older version beside this one, is seen by then
_Key = tuple[str, str, int]


@dataclass(frozen=True)
class _Read:
    """All there was when the count of changes was at `seen`. `whole_at`: when it was last read as a whole."""

    undone: int
    seen: int
    rows: Mapping[_Key, KnownJob]
    in_order: tuple[KnownJob, ...]
    whole_at: datetime


class WaitingKept:
    """What one controller has read of them. Its threads may read at the same time: each replaces all of what is kept,
    and who was overtaken has only more to read next time."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._read: _Read | None = None

    def forget(self) -> None:
        self._read = None

    def read(self, connection: Connection, since: datetime, now: datetime) -> tuple[KnownJob, ...]:
        """Those seen after `since`, oldest first."""
        before, undone = self._read, self._db.undone
        if before is None or before.undone != undone or not before.whole_at <= now <= before.whole_at + _WHOLE_EVERY:
            seen = connection.scalar(_LAST) or 0
            rows = connection.execute(_ALL).mappings().all()
            before = _Read(undone, seen, {}, (), now)
        else:
            rows = connection.execute(_CHANGED, {"seen": before.seen}).mappings().all()
            seen = rows[-1]["changed"] if rows else before.seen
        if rows:
            known = _with(before.rows, rows)
            in_order = sorted(known.values(), key=lambda known: (known.job.created_at, known.job.key))
            before = replace(before, seen=seen, rows=known, in_order=tuple(in_order))
        self._read = before
        return tuple(known for known in before.in_order if known.seen_at > since)


def _with(before: Mapping[_Key, KnownJob], rows: Iterable[RowMapping]) -> Mapping[_Key, KnownJob]:
    known_jobs = dict(before)
    for known in map(decoded, rows):
        if known.job.state is CiJobState.QUEUED and known.unseen < UNSEEN:
            known_jobs[known.job.key] = known
        else:
            known_jobs.pop(known.job.key, None)
    return known_jobs


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
