"""Instances, offers and events: what we have, what could be had, and what happened."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from provisioner.domain.errors import Forbidden, InvalidRequest, NotFound
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import Instance, InstancePhase, MarketPolicy, Need
from provisioner.domain.store import Event

from ..auth import Caller, Doer, Looker, Use, Viewer
from ..routes import KnownFirst
from ..services import Services
from ..shape import charges_by, costs, plain, plain_all, rungs
from ..submit import check_known

router = APIRouter(tags=["instances"], route_class=KnownFirst)

_LONGEST_WAIT_S = 60.0
_LOOK_EVERY_S = 0.2  # how soon a waiting reader sees a new event; arbitrary


@router.get("/instances")
async def list_instances(services: Use, caller: Looker, all: bool = False) -> JSONResponse:
    """Newest first; without `all`, those short of gone."""
    found = await services.store.instances.find(phases=tuple(InstancePhase) if all else (), limit=1000)
    if caller.session is not None:
        found = [one for one in found if one.belongs_to == caller.owner and await _made(services, caller, one)]
    return JSONResponse(await _shown(services, found))


@router.get("/instances/{id}")
async def show_instance(id: str, services: Use, caller: Looker) -> JSONResponse:
    (shown,) = await _shown(services, [await _seen(services, caller, id)])
    return JSONResponse(shown)


@router.post("/instances/{id}/stop")
async def stop_instance(id: str, services: Use, caller: Doer) -> JSONResponse:
    """Drain it, then end it."""
    instance = await _seen(services, caller, id)
    caller.check_owns(instance.belongs_to, instance.id)
    if caller.session is not None:
        for attempt in await services.store.jobs.live_attempts():
            if attempt.instance_id == instance.id:
                caller.seen(await services.store.jobs.get(attempt.job_id))
    stopped = await services.store.instances.ask_stop(instance.id, services.clock.now())
    services.desk.poke()
    return JSONResponse(plain(stopped))


@router.get("/events")
async def list_events(
    services: Use,
    caller: Looker,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    job: str = "",
    instance: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    wait_s: Annotated[float, Query(ge=0, le=_LONGEST_WAIT_S)] = 0.0,
) -> JSONResponse:
    """Those with a higher id than `after`, oldest first; with `wait_s`, held until there is one."""
    if caller.session is not None and not (job or instance):
        raise Forbidden("a CI run reads the events of its own jobs", hint="name the job")
    job_id = caller.seen(await services.store.jobs.get(job)).id if job else ""
    instance_id = (await _seen(services, caller, instance)).id if instance else ""
    deadline = services.clock.monotonic() + wait_s

    async def look() -> list[Event]:
        while True:
            found = await services.store.records.events(
                after=after, job_id=job_id, instance_id=instance_id, limit=limit
            )
            if found or services.clock.monotonic() >= deadline:
                return found
            await services.clock.sleep(_LOOK_EVERY_S)

    return JSONResponse(plain_all(await services.ending.hold(look()) or []))


@router.get("/offers")
async def list_offers(
    services: Use,
    caller: Viewer,
    gpu: str = "",
    cpus: Annotated[int, Query(ge=0)] = 0,
    memory: Annotated[float, Query(ge=0)] = 0.0,
    disk: Annotated[float, Query(ge=0)] = 0.0,
    market: MarketPolicy = MarketPolicy.SPOT_FIRST,
    provider: str = "",
    region: str = "",
    instance_type: str = "",
    max_price: str = "",
) -> JSONResponse:
    """All offers in the order in which they would be tried, each with its price's age and why it would not be."""
    need = Need(
        gpu=parse_gpu(gpu) if gpu else None,
        cpus=cpus,
        memory_gib=memory,
        disk_gib=disk,
        market=market,
        providers=tuple(filter(None, provider.split(","))),
        regions=tuple(filter(None, region.split(","))),
        instance_type=instance_type,
        max_price=_price(max_price),
    )
    ladder = await services.desk.ladder(need)
    check_known(ladder)
    return JSONResponse(rungs(ladder, services.clock.now()))


async def _made(services: Services, caller: Caller, instance: Instance) -> bool:
    """Whether the caller may see it: a CI run, those that its own jobs were the reason for."""
    if caller.session is None:
        return True
    try:
        return caller.sees(await services.store.jobs.get(instance.planned_for))
    except (NotFound, InvalidRequest):
        return False


async def _seen(services: Services, caller: Caller, instance_id: str) -> Instance:
    """Raises: NotFound for one that the caller does not see, as if there were none."""
    instance = await services.store.instances.get(instance_id)
    if not await _made(services, caller, instance):
        raise NotFound(f"no machine {instance_id!r}", hint="a CI run sees what it made itself")
    return instance


async def _shown(services: Services, found: list[Instance]) -> list[dict[str, Any]]:
    """With what each cost, the job on it, and the seconds since its agent was heard."""
    now, now_s = services.clock.now(), services.clock.monotonic()
    busy = {attempt.instance_id: attempt.job_id for attempt in await services.store.jobs.live_attempts()}
    since = min((instance.created_at for instance in found), default=now)
    charges = await charges_by(services.store.records, "instance_id", [one.id for one in found], since)
    shown = []
    for instance in found:
        heard_s = services.traffic.heard.get(instance.id)
        silent_s = None if heard_s is None else round(now_s - heard_s, 3)
        cost = costs(charges.get(instance.id, ()), now)
        shown.append(plain(instance, **cost, busy=busy.get(instance.id, ""), heard_s=silent_s))
    return shown


def _price(text: str) -> Decimal | None:
    if not text:
        return None
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise InvalidRequest(f"max_price: {text[:40]!r} is not a price in USD an hour")
    return price
