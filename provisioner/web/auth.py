"""Who is calling, and what their role lets them do.

On the control socket the file's permission was the login: the caller is an admin, named by `X-Runner-User`. Over TCP
it is a bearer token, of which only the hash is known here. A viewer may look, a user may act on what is theirs, an
admin may do everything. A CI run (role `ci`) may do what names it, `Looker` and `Doer`, with what its own run made, and
nothing else at all.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from provisioner.domain.ci import Session
from provisioner.domain.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated
from provisioner.domain.job import Job

from .services import Services

ROLES = ("viewer", "user", "admin")
CI_PREFIX = "rc_"
OWNER_HEADER = "x-runner-user"
_OWNER = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """`local`: came through the control socket, so is whoever may read the controller's own files. `session`: of a CI
    run."""

    owner: str
    role: str
    local: bool = False
    session: Session | None = None

    def check_owns(self, owner: str, what: str) -> None:
        """Raises: Forbidden unless it is theirs or they are an admin."""
        if self.role != "admin" and owner != self.owner:
            raise Forbidden(f"{what} belongs to {owner}", hint="ask them, or an admin")

    def sees(self, job: Job) -> bool:
        """Everybody sees everything, but a CI run only what it made itself."""
        if self.session is None:
            return True
        origin = job.spec.origin
        return job.owner == self.owner and origin is not None and origin.run == self.session.run

    def seen(self, job: Job) -> Job:
        """Raises: NotFound for what it does not see, as if there were no such job."""
        if not self.sees(job):
            raise NotFound(f"no job {job.id!r}", hint="a CI run sees what it made itself")
        return job


Login = Callable[[Request], Awaitable[Caller]]


async def control_login(request: Request) -> Caller:
    owner = request.headers.get(OWNER_HEADER) or getpass.getuser()
    return Caller(checked_name(owner), "admin", local=True)


async def token_login(request: Request) -> Caller:
    services = await services_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.startswith(CI_PREFIX) and services.ci is not None:
        session = services.ci.session(token)
        return Caller(session.owner, "ci", session=session)
    if scheme.lower() != "bearer" or not token.startswith("rt_"):
        raise Unauthenticated("this controller needs a token", hint="set RUNNER_TOKEN; `runner token create` makes one")
    row = await services.store.records.token(hashed(token), services.clock.now())
    if row is None:
        raise Unauthenticated("this token is wrong, or has expired", hint="`runner token create` makes another")
    return Caller(row.name, row.role)


def new_token() -> str:
    return "rt_" + secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def checked_name(name: str) -> str:
    """The name of an owner. Raises: InvalidRequest."""
    if not _OWNER.fullmatch(name):
        raise InvalidRequest(f"not a name: {name[:80]!r}", hint="letters, digits and _.@+-, at most 64")
    return name


async def services_of(request: Request) -> Services:
    """Not that it waits for anything: what does not say so is run by another thread."""
    services: Services = request.app.state.services
    return services


def _at_least(role: str, *, ci: bool = False) -> Callable[[Request], Awaitable[Caller]]:
    async def check(request: Request) -> Caller:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None:
            login: Login = request.app.state.login
            caller = await login(request)
        if caller.role == "ci":
            if not ci:
                raise Forbidden(
                    "a CI run may not do this", hint="it may launch runners, and see, report and cancel its own"
                )
            return caller
        if ROLES.index(caller.role) < ROLES.index(role):
            raise Forbidden(f"a {caller.role} may not do this", hint=f"it takes the role {role}")
        return caller

    return check


Use = Annotated[Services, Depends(services_of)]
Viewer = Annotated[Caller, Depends(_at_least("viewer"))]
User = Annotated[Caller, Depends(_at_least("user"))]
Looker = Annotated[Caller, Depends(_at_least("viewer", ci=True))]
Doer = Annotated[Caller, Depends(_at_least("user", ci=True))]
Admin = Annotated[Caller, Depends(_at_least("admin"))]
