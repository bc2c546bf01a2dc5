"""A job's log, whole or as it grows."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.job import Job

from .. import log_stream
from ..auth import Looker, Use
from ..routes import KnownFirst

router = APIRouter(tags=["logs"], route_class=KnownFirst)


@router.get("/jobs/{id}/log", response_class=StreamingResponse)
async def stream_log(
    id: str,
    services: Use,
    caller: Looker,
    attempt: str = "latest",
    offset: Annotated[int, Query(ge=0, le=2**63)] = 0,
    follow: bool = False,
    format: Literal["frames", "text"] = "frames",
) -> StreamingResponse:
    """From `offset` of `attempt`: a number, `latest`, `all`, or `N+` for N and later ones. With `follow`, until the job
    is done."""
    job = caller.seen(await services.store.jobs.get(id))
    more = attempt == "all" or attempt.endswith("+")
    view = log_stream.View(_number(job, attempt.removesuffix("+")), offset, follow, more)
    if format == "text":
        return StreamingResponse(log_stream.text(services, job, view), media_type="text/plain; charset=utf-8")
    return StreamingResponse(log_stream.frames(services, job, view), media_type="application/octet-stream")


def _number(job: Job, attempt: str) -> int:
    if attempt == "all":
        return 1
    if attempt == "latest":
        return max(1, job.attempts)
    if not attempt.isdecimal() or len(attempt) > 6 or int(attempt) < 1:
        raise InvalidRequest(f"attempt: {attempt[:40]!r} is no attempt", hint="a number from 1, `latest` or `all`")
    return int(attempt)
