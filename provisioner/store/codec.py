"""Between rows and the domain's dataclasses. Specs and offers are JSON text; everything else has its own column."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from provisioner.domain.job import (
    Attempt,
    AttemptPhase,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    JobSpec,
    Outcome,
    Reason,
    Why,
)
from provisioner.domain.money import Charge
from provisioner.domain.offer import Offer
from provisioner.domain.store import Event


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def dump(value: JobSpec | Offer) -> str:
    kind: Any = type(value)
    return _adapter(kind).dump_json(value).decode()


@lru_cache(maxsize=4096)
def load_spec(text: str) -> JobSpec:
    spec: JobSpec = _adapter(JobSpec).validate_json(text)
    return spec


@lru_cache(maxsize=4096)
def load_offer(text: str) -> Offer:
    offer: Offer = _adapter(Offer).validate_json(text)
    return offer


def stamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def when_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a write, as the database holds them."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, datetime):
            row[name] = value.timestamp()
        elif isinstance(value, Reason):
            row["why"], row["detail"] = str(value.why), value.detail
        elif isinstance(value, Decimal):
            row[name] = str(value)
        elif name == "facts":
            row[name] = json.dumps(value)
        elif is_dataclass(value):
            row[name] = dump(value)  # type: ignore[arg-type]
        else:
            row[name] = value
    return row


def job_row(job: Job) -> dict[str, Any]:
    return {
        **plain({f.name: getattr(job, f.name) for f in fields(job) if f.name != "reason"}),
        **_reason(job.reason),
        "name": job.spec.name,
    }


def instance_row(instance: Instance) -> dict[str, Any]:
    row = plain({f.name: getattr(instance, f.name) for f in fields(instance) if f.name != "reason"})
    return row | _reason(instance.reason)


def _reason(reason: Reason) -> dict[str, str]:
    return {"why": str(reason.why), "detail": reason.detail}


def job(row: RowMapping) -> Job:
    return Job(
        id=row["id"],
        owner=row["owner"],
        spec=load_spec(row["spec"]),
        phase=JobPhase(row["phase"]),
        created_at=when(row["created_at"]),
        version=row["version"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=Reason(Why(row["why"]), row["detail"]),
        exit_code=row["exit_code"],
        started_at=when_or_none(row["started_at"]),
        ended_at=when_or_none(row["ended_at"]),
        attempts=row["attempts"],
        failures=row["failures"],
        cancel_asked_at=when_or_none(row["cancel_asked_at"]),
        cancel_now=bool(row["cancel_now"]),
    )


def attempt(row: RowMapping) -> Attempt:
    return Attempt(
        job_id=row["job_id"],
        number=row["number"],
        instance_id=row["instance_id"],
        phase=AttemptPhase(row["phase"]),
        assigned_at=when(row["assigned_at"]),
        started_at=when_or_none(row["started_at"]),
        ended_at=when_or_none(row["ended_at"]),
        exit_code=row["exit_code"],
        reason=Reason(Why(row["why"]), row["detail"]),
        results_complete=bool(row["results_complete"]),
        log_complete=bool(row["log_complete"]),
        facts=json.loads(row["facts"]),
    )


def instance(row: RowMapping) -> Instance:
    return Instance(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        phase=InstancePhase(row["phase"]),
        offer=load_offer(row["offer"]),
        created_at=when(row["created_at"]),
        phase_at=when(row["phase_at"]),
        version=row["version"],
        reason=Reason(Why(row["why"]), row["detail"]),
        planned_for=row["planned_for"],
        ref=row["ref"],
        launch_calls=row["launch_calls"],
        launched_at=when_or_none(row["launched_at"]),
        ready_at=when_or_none(row["ready_at"]),
        gone_at=when_or_none(row["gone_at"]),
        terminate_calls=row["terminate_calls"],
        terminated_at=when_or_none(row["terminated_at"]),
        idle_timeout_s=row["idle_timeout_s"],
        max_lifetime_s=row["max_lifetime_s"],
        stop_asked_at=when_or_none(row["stop_asked_at"]),
        image=row["image"],
        disk_gib=row["disk_gib"],
        reserved_usd_per_hour=Decimal(row["reserved_usd_per_hour"]),
    )


def event(row: RowMapping) -> Event:
    return Event(
        what=row["what"],
        at=when(row["at"]),
        message=row["message"],
        job_id=row["job_id"],
        attempt=row["attempt"],
        instance_id=row["instance_id"],
        data=json.loads(row["data"]),
        id=row["id"],
    )


def charge(row: RowMapping) -> Charge:
    return Charge(
        id=row["id"],
        instance_id=row["instance_id"],
        phase=row["phase"],
        opened_at=when(row["opened_at"]),
        usd_per_hour=None if row["usd_per_hour"] is None else Decimal(row["usd_per_hour"]),
        source=row["source"],
        closed_at=when_or_none(row["closed_at"]),
        job_id=row["job_id"],
        attempt=row["attempt"],
    )
