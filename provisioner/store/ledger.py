"""What every change of phase writes beside it, in the same transaction: an event, and the charge it closes or opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Double, bindparam, case, insert, update

from provisioner.domain.job import Instance

from .schema import charges, events

_NOTE, _CHARGE = insert(events), insert(charges)
_moment = bindparam("moment", type_=Double)
_CLOSE = (
    update(charges)
    .where(charges.c.instance_id == bindparam("instance"), charges.c.closed_at.is_(None))
    .values(closed_at=case((charges.c.opened_at > _moment, charges.c.opened_at), else_=_moment))
    .returning(charges.c.closed_at)
)


def note(
    connection: Connection,
    what: str,
    at: datetime,
    message: str = "",
    *,
    job_id: str = "",
    attempt: int = 0,
    instance_id: str = "",
    data: Mapping[str, Any] | None = None,
) -> int:
    """Write one event; its id."""
    row = {
        "what": what,
        "at": at.timestamp(),
        "message": message,
        "job_id": job_id,
        "attempt": attempt,
        "instance_id": instance_id,
        "data": json.dumps(data or {}),
    }
    done = connection.execute(_NOTE, row)
    key = done.inserted_primary_key
    assert key is not None
    return int(key[0])


def charge(
    connection: Connection, instance: Instance, phase: str | None, at: datetime, *, job_id: str = "", attempt: int = 0
) -> None:
    """Close what is open for the instance and open `phase`, or nothing when it is None. One line begins where the one
    before it ends, and none ends before it began, even when the clock was set back in between."""
    moment = at.timestamp()
    closed = connection.execute(_CLOSE, {"instance": instance.id, "moment": moment}).scalar()
    opened_at = moment if closed is None else closed
    if phase is None:
        return
    price = instance.offer.usd_per_hour
    row = {
        "instance_id": instance.id,
        "phase": phase,
        "opened_at": opened_at,
        "usd_per_hour": None if price is None else str(price),
        "source": instance.offer.price_source,
        "job_id": job_id,
        "attempt": attempt,
    }
    connection.execute(_CHARGE, row)
