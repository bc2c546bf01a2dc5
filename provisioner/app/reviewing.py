"""Where a command may say something at a forge, and the saying of it: the forge's adapters are composed here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import (
    Comment,
    Conclusion,
    ForgeCredentials,
    Reviews,
    Site,
    Target,
)
from provisioner.domain.step import Step, parse_target
from provisioner.forges.registry import known, open_forge
from provisioner.reports.post import marked, upsert

from .clock import SystemClock


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """A target at a forge, and the right to speak there. `sha` is what a check is put on; "" where none is known."""

    site: Site
    target: Target
    sha: str
    token: str
    api: str = ""


Opened = Callable[[Place], AbstractAsyncContextManager[Reviews]]


def step(environment: Mapping[str, str]) -> Step | None:
    """Raises: InvalidRequest when the event that began the run cannot be read."""
    variable = known().event_variable(environment)
    path = environment.get(variable, "")
    event: dict[str, Any] | None = None
    if path and Path(path).is_file():
        try:
            event = json.loads(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"cannot read the event in {path}: {error}", hint=f"{variable} names it") from error
    return known().step(environment, event if isinstance(event, dict) else None)


def place(environment: Mapping[str, str], *, target: str = "", repo: str = "", forge: str = "") -> Place:
    """What the user named, else where the step stands. Raises: InvalidRequest."""
    here = step(environment)
    if here is None and not (repo and target):
        raise InvalidRequest("this is no CI step, so it is not known where to post", hint="give --repo and --target")
    wanted = parse_target(target) if target else None
    if repo:
        ours = {here.site.base.partition("://")[2]: str(here.kind)} if here is not None else {}
        named = {_host(repo): forge} if forge else {}
        site = known().site(repo, {**ours, **named})
    else:
        assert here is not None
        site = here.site
    same = here is not None and site == here.site
    final = wanted or (here.target if here is not None and same else None)
    if final is None:
        raise InvalidRequest("which pull request, issue or commit of that repository?", hint="give --target")
    api = here.api if here is not None and site.base == here.site.base else ""
    sha = final.ref if final.what == "commit" else here.sha if same and here and final == here.target else ""
    return Place(site, final, sha, known().token(site.kind, environment), api)


def _host(repo: str) -> str:
    return repo.partition("://")[2].partition("/")[0] if "://" in repo else repo.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Said:
    """`write(longest)` gives the text; `check` is (name, conclusion, title) or None. `key` "" adds a comment of no
    mark; else the one comment of this key is brought up to date."""

    write: Callable[[int], str]
    key: str = ""
    check: tuple[str, Conclusion, str] | None = None


def post(where: Place, said: Said, opened: Opened | None = None) -> Comment:
    """Raises: ForgeError, InvalidRequest when a text of the user's own is too long."""
    return asyncio.run(_post(where, said, opened or open_reviews))


async def _post(where: Place, said: Said, opened: Opened) -> Comment:
    async with opened(where) as reviews:
        text = said.write(reviews.longest - (len(marked(said.key, "")) if said.key else 0))
        if said.key:
            comment = await upsert(reviews, where.site, where.target, said.key, text)
        else:
            comment = await reviews.add(where.site, where.target, text)
        if said.check is not None and where.sha:
            name, conclusion, title = said.check
            await reviews.check(where.site, where.sha, name, conclusion, title, text)
        return comment


@asynccontextmanager
async def open_reviews(where: Place) -> AsyncIterator[Reviews]:
    """Raises: InvalidRequest."""
    credentials = ForgeCredentials(token=where.token, api=where.api)
    forge = open_forge(known().of(where.site.kind), where.site.base, credentials, SystemClock())
    try:
        yield forge
    finally:
        await forge.close()
