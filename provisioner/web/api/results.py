"""Results: the manifest of an attempt, and its files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from provisioner.domain.errors import NotFound
from provisioner.domain.store import ManifestRow

from ..auth import Looker, Use
from ..manifests import left_behind
from ..routes import KnownFirst
from ..serve_object import streamed
from ..services import Services

router = APIRouter(tags=["results"], route_class=KnownFirst)

_SIGNED_FOR_S = 3600.0  # arbitrary: long enough for one large file
_MOST_LINKS = 1000


class Wanted(BaseModel):
    """Paths as the manifest has them."""

    paths: Annotated[list[str], Field(max_length=_MOST_LINKS)]


@router.get("/jobs/{id}/results")
async def manifest(
    id: str, services: Use, caller: Looker, attempt: Annotated[int | None, Query(ge=1, lt=10**6)] = None
) -> JSONResponse:
    """The manifest of the newest attempt that has one, or of the one named."""
    job = caller.seen(await services.store.jobs.get(id))
    row = await _manifest(services, job.id, attempt)
    if row is None:
        return JSONResponse({"attempt": attempt or job.attempts, "manifest": None, "final": False})
    return JSONResponse({"attempt": row.number, "manifest": dict(row.body), "final": row.final})


@router.get("/jobs/{id}/results/{attempt}/files/{path:path}", response_class=Response)
async def file(id: str, attempt: int, path: str, request: Request, services: Use, caller: Looker) -> Response:
    """One file's bytes, or where to get them."""
    job = caller.seen(await services.store.jobs.get(id))
    entry = (await _files(services, job.id, attempt)).get(path)
    if entry is None:
        raise NotFound(
            f"attempt {attempt} of {job.id} has no result {path!r}", hint=f"`runner pull {job.id}` lists them"
        )
    key = f"results/{job.id}/{attempt}/{entry['key']}"
    if services.objects.signs:
        (signed,) = await services.objects.sign([key], "GET", _SIGNED_FOR_S)
        return RedirectResponse(signed.url, 307)
    return await streamed(services.objects, key, request.headers.get("range"))


@router.post("/jobs/{id}/results/{attempt}/links")
async def links(id: str, attempt: int, wanted: Wanted, services: Use, caller: Looker) -> JSONResponse:
    """Where each of many files can be had without asking again, for an hour; nothing where the store does not sign."""
    job = caller.seen(await services.store.jobs.get(id))
    files = await _files(services, job.id, attempt)
    if unknown := [path for path in wanted.paths if path not in files]:
        raise NotFound(f"attempt {attempt} of {job.id} has no result {unknown[0]!r}")
    if not services.objects.signs:
        return JSONResponse({"links": {}})
    keys = [f"results/{job.id}/{attempt}/{files[path]['key']}" for path in wanted.paths]
    signed = await services.objects.sign(keys, "GET", _SIGNED_FOR_S)
    return JSONResponse({"links": {path: one.url for path, one in zip(wanted.paths, signed, strict=True)}})


async def _manifest(services: Services, job_id: str, attempt: int | None) -> ManifestRow | None:
    rows = await services.store.records.manifests(job_id, "results")
    row = next((row for row in reversed(rows) if attempt is None or row.number == attempt), None)
    if attempt is None or (row is not None and row.final) or not services.objects.signs:
        return row
    body = await left_behind(services, job_id, attempt)
    if body is None or (row is not None and row.sequence >= body["sequence"]):
        return row
    return ManifestRow(job_id, attempt, "results", body["sequence"], body["final"], services.clock.now(), body)


async def _files(services: Services, job_id: str, attempt: int) -> dict[str, dict[str, Any]]:
    """By path. A final manifest never changes again, so it is read and parsed once for all of its files."""
    if (kept := services.shelf.kept.get((job_id, attempt))) is not None:
        return kept
    row = await _manifest(services, job_id, attempt)
    files = {one["path"]: one for one in row.body.get("files", ())} if row is not None else {}
    if row is not None and row.final:
        services.shelf.keep((job_id, attempt), files)
    return files
