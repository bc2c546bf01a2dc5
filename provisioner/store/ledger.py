"""What every change of phase writes beside it, in the same transaction: an event, and the charge it closes or opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, update

from provisioner.domain.job import Instance

from .schema import charges, events


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
    done = connection.execute(
        insert(events).values(
            what=what,
            at=at.timestamp(),
            message=message,
            job_id=job_id,
            attempt=attempt,
            instance_id=instance_id,
            data=json.dumps(data or {}),
        )
    )
    key = done.inserted_primary_key
    assert key is not None
    return int(key[0])


def charge(
    connection: Connection, instance: Instance, phase: str | None, at: datetime, *, job_id: str = "", attempt: int = 0
) -> None:
    """Close what is open for the instance and open `phase`, or nothing when it is None."""
    connection.execute(
        update(charges)
        .where(charges.c.instance_id == instance.id, charges.c.closed_at.is_(None))
        .values(closed_at=at.timestamp())
    )
    if phase is None:
        return
    price = instance.offer.usd_per_hour
    connection.execute(
        insert(charges).values(
            instance_id=instance.id,
            phase=phase,
            opened_at=at.timestamp(),
            usd_per_hour=None if price is None else str(price),
            source=instance.offer.price_source,
            job_id=job_id,
            attempt=attempt,
        )
    )
