"""Jobs: submitted, listed, explained, cancelled, run again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from provisioner.domain.job import Instance, Job, JobPhase

from ..auth import Caller, Doer, Looker, Use, User
from ..explain import lines, of_gpus
from ..routes import KnownFirst
from ..services import Services
from ..shape import charges_by, costs, plain, plain_all
from ..submit import again, already, read_spec, submit

router = APIRouter(tags=["jobs"], route_class=KnownFirst)

_OPEN = (JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD)


class NewJob(BaseModel):
    """`secrets` are values from the caller's environment, for this job alone."""

    id: str
    spec: dict[str, Any]
    secrets: dict[str, str] = Field(default_factory=dict)


class Cancel(BaseModel):
    now: bool = False


class Waits(BaseModel):
    online: bool = False


class Rerun(BaseModel):
    id: str
    secrets: dict[str, str] = Field(default_factory=dict)


@router.post("/jobs", status_code=201)
async def submit_job(body: NewJob, services: Use, caller: Doer) -> JSONResponse:
    """Store a job; the same id again answers with the stored one (200)."""
    if (stored := await already(services, caller, body.id)) is not None:
        return JSONResponse(plain(stored))
    return JSONResponse(plain(await submit(services, caller, body.id, read_spec(body.spec), body.secrets)), 201)


@router.get("/jobs")
async def list_jobs(
    services: Use, caller: Looker, all: bool = False, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> JSONResponse:
    """Newest first; without `all`, those that are not done."""
    owner = caller.owner if caller.session is not None else None
    found = await services.store.jobs.find(owner=owner, phases=() if all else _OPEN, limit=limit)
    found = [job for job in found if caller.sees(job)]
    now = services.clock.now()
    since = min((job.created_at for job in found), default=now)
    charges = await charges_by(services.store.records, "job_id", [job.id for job in found], since)
    return JSONResponse([plain(job, **costs(charges.get(job.id, ()), now)) for job in found])


@router.get("/jobs/{id}")
async def show_job(id: str, services: Use, caller: Looker) -> JSONResponse:
    """One job with its attempts, charges, runners and latest results."""
    job = caller.seen(await services.store.jobs.get(id))
    charges = await services.store.records.charges(job_id=job.id)
    results = await services.store.records.manifests(job.id, "results")
    more = {
        "attempts_list": await _attempts(services, job),
        **costs(charges, services.clock.now()),
        "charges": plain_all(charges),
        "runners": await _runners(services, job),
        "manifests": {"results": dict(results[-1].body) if results else None},
    }
    return JSONResponse(plain(job, **more))


@router.get("/jobs/{id}/why")
async def explain_job(id: str, services: Use, caller: Looker) -> JSONResponse:
    """Why it is where it is: sentences, the offers in order while it waits, and what happened."""
    job = caller.seen(await services.store.jobs.get(id))
    ladder = await services.desk.ladder(job.spec.need) if job.phase in (JobPhase.QUEUED, JobPhase.HELD) else None
    attempts, events = await services.store.jobs.attempts(job.id), await services.store.records.events(job_id=job.id)
    rows = await services.store.runners.of_job(job.id) if job.spec.runner else ()
    told = {
        "job": plain(job),
        "lines": lines(job, attempts, ladder, services.clock.now(), events, rows),
        "ladder": [{"offer": str(r.offer), "refused": r.refused} for r in ladder.rungs] if ladder else [],
        "events": plain_all(events),
    }
    return JSONResponse(told)


@router.post("/jobs/{id}/cancel")
async def cancel_job(id: str, body: Cancel, services: Use, caller: Doer) -> JSONResponse:
    """Kindly, or `now`. A job that is done stays as it is."""
    job = await _own(services, caller, id)
    cancelled = await services.store.jobs.ask_cancel(job.id, services.clock.now(), now=body.now)
    services.desk.poke()
    return JSONResponse(plain(cancelled))


@router.post("/jobs/{id}/awaited")
async def say_waits(id: str, body: Waits, services: Use, caller: Doer) -> JSONResponse:
    """Somebody waits for its runner (`awaited` of its spec), and is to say so again within `within_s` seconds, until
    they have seen it `online`."""
    job = await _own(services, caller, id)
    await services.store.runners.note_waits(job.id, None if body.online else services.clock.now())
    return JSONResponse({"within_s": services.policy.awaited_s})


@router.post("/jobs/{id}/rerun", status_code=201)
async def rerun_job(id: str, body: Rerun, services: Use, caller: User) -> JSONResponse:
    """The same spec under a new id. Secrets handed over for the old one go along with its owner."""
    if (stored := await already(services, caller, body.id)) is not None:
        return JSONResponse(plain(stored))
    job = await _own(services, caller, id)
    secrets = dict(body.secrets)
    if job.owner == caller.owner and job.spec.secrets:
        kept = await services.store.records.secrets(job.owner, job.spec.secrets, job_id=job.id)
        secrets = kept | secrets
    return JSONResponse(plain(await submit(services, caller, body.id, again(job), secrets)), 201)


@router.get("/jobs/{id}/readings")
async def readings(
    id: str, services: Use, caller: Looker, attempt: Annotated[int | None, Query(ge=1, lt=10**6)] = None
) -> JSONResponse:
    """CPU, memory, disk and GPU over time: [[time, {...}]], of the latest attempt unless one is named."""
    job = caller.seen(await services.store.jobs.get(id))
    rows = await services.store.records.readings(job.id, attempt or job.attempts)
    return JSONResponse([[at.isoformat(), dict(values)] for at, values in rows])


async def _own(services: Services, caller: Caller, job_id: str) -> Job:
    job = caller.seen(await services.store.jobs.get(job_id))
    caller.check_owns(job.owner, job.id)
    return job


async def _runners(services: Services, job: Job) -> list[dict[str, Any]]:
    """What is known of its records at the forge, oldest first."""
    rows = await services.store.runners.of_job(job.id) if job.spec.runner else []
    return [plain(row) | {"site": row.site.url} for row in rows]


async def _attempts(services: Services, job: Job) -> list[dict[str, Any]]:
    shown, instances, interruptions = [], dict[str, Instance](), await _interruptions(services, job)
    events = await services.store.records.events(job_id=job.id)
    for attempt in await services.store.jobs.attempts(job.id):
        size, _ = await services.logs.offsets(job.id, attempt.number)
        if attempt.instance_id not in instances:
            instances[attempt.instance_id] = await services.store.instances.get(attempt.instance_id)
        more = {
            "instance": plain(instances[attempt.instance_id]),
            "gpu_events": of_gpus(events, attempt),
            "interruption": interruptions.get(attempt.number),
        }
        shown.append(plain(attempt, log_size=size, **more))
    return shown


async def _interruptions(services: Services, job: Job) -> dict[int, dict[str, Any]]:
    """By attempt, what was recorded of its machine's being taken back."""
    if job.attempts == 0:
        return {}
    told: dict[int, dict[str, Any]] = {}
    for event in await services.store.records.events(job_id=job.id):
        if event.what in ("instance.interrupted", "attempt.interrupted") and event.attempt:
            told.setdefault(event.attempt, {}).update(event.data)
    return told
