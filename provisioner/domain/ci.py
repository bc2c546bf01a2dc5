"""CI runs that come with a token of their forge's: what it vouches for, and what a policy then grants. Pure.

In: the claims of a token whose signature, issuer, audience and time were found to be right. Out: a `Session`, or one
line that says why not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from .budget import Budget
from .errors import Forbidden
from .forge import Site
from .job import CiOrigin, JobSpec, Need

LASTS = timedelta(hours=1)
_OWNER = 64


@dataclass(frozen=True, slots=True)
class CiPolicy:
    """`repositories` and `refs` are patterns (`*`, `?`); no refs: any. `claims`: further ones, by name. `pools`: whose
    machines may be asked for, and no others; none: any. `key` is of this text of it: a session ends when the policy
    that let it in is changed."""

    site: Site
    issuer: str
    audience: str
    repositories: tuple[str, ...]
    max_instances: int
    max_usd_per_hour: Decimal
    max_lifetime_s: float
    refs: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    pull_requests: str = "refused"
    owner: str = ""
    max_price: Decimal | None = None
    gpus: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    budget: Budget | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class CiClaims:
    """What is said of a run. `fork` None: it cannot be told from the token. `job_id` "": nor can the job."""

    repository: str
    ref: str
    run_id: str
    attempt: str
    fork: bool | None
    job_id: str
    every: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    """One run's right, for an hour. `policy` is the key of the one that granted it."""

    owner: str
    repository: str
    ref: str
    run: str
    policy: str
    expires_at: datetime


class CiDoor(Protocol):
    """Lets CI runs in."""

    async def exchange(self, token: str) -> tuple[Session, str]:
        """A session for a forge's token, and its text. Raises: Unauthenticated, Forbidden, in one line."""
        ...

    def session(self, text: str) -> Session:
        """Raises: Unauthenticated once it has ended, or was not given by us."""
        ...

    def granted(self, session: Session) -> CiPolicy:
        """The policy that let it in. Raises: Unauthenticated when that is no more."""
        ...


class Vouching(Protocol):
    """How a kind of forge signs for the jobs of its CI. Pure."""

    def issuer(self, base: str) -> str:
        """Who signs for the forge at `base`; "" where that cannot be known."""
        ...

    def claims(self, told: Mapping[str, str]) -> CiClaims: ...


def read_claims(vouching: Vouching, told: Mapping[str, object]) -> CiClaims:
    """Raises: Forbidden when it is no token of a CI run."""
    every = {name: _text(value) for name, value in told.items() if isinstance(value, str | int)}
    found = vouching.claims(every)
    if not (found.repository and found.run_id):
        raise Forbidden("this token is of no CI run", hint="take the one that the forge gives to a job")
    return found


def _text(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def admit(policies: Sequence[CiPolicy], issuer: str, audience: Sequence[str], claims: CiClaims) -> CiPolicy:
    """The first policy that speaks of this repository and ref. Whether it lets forks in is `check_fork`'s. Raises:
    Forbidden."""
    ours = [one for one in policies if one.issuer == issuer and one.audience in audience]
    named = [one for one in ours if any(_like(claims.repository, pattern) for pattern in one.repositories)]
    if not named:
        what = f"no policy of this controller is for {claims.repository[:200]}"
        raise Forbidden(what, hint="see `ci:` of its settings")
    for policy in named:
        if policy.refs and not any(fnmatchcase(claims.ref, pattern) for pattern in policy.refs):
            continue
        if all(fnmatchcase(claims.every.get(name, ""), pattern) for name, pattern in policy.claims.items()):
            return policy
    what = f"{claims.repository[:200]} may come, but not from {claims.ref[:200] or 'no ref'}"
    raise Forbidden(what, hint="see `ci:` of the controller's settings")


def check_fork(policy: CiPolicy, claims: CiClaims, fork: bool | None) -> None:
    """`fork` as its forge says now, None where nobody can tell. Raises: Forbidden."""
    if claims.fork is False or policy.pull_requests == "forks":
        return
    if policy.pull_requests == "own" and fork is False:
        return
    if policy.pull_requests == "own" and fork is None:
        said = f"whether this run of {claims.repository[:200]} is a fork's cannot be told"
        raise Forbidden(said, hint="the controller needs rights at the forge to ask (`forges:` of its settings)")
    what = "a fork's pull request" if claims.fork or fork else "a run of a pull request, or that may be for one,"
    raise Forbidden(f"{what} may not come to this controller", hint="see `pull_requests` in `ci:` of its settings")


def session_of(policy: CiPolicy, claims: CiClaims, fork: bool, now: datetime) -> Session:
    repository = f"{policy.site.base}/{claims.repository}"
    run = f"{repository}#{claims.run_id}.{claims.attempt}"
    owner = _owner(policy, repository, run if fork else "")
    return Session(owner, repository, claims.ref, run, policy.key, now + LASTS)


def _owner(policy: CiPolicy, repository: str, fork: str) -> str:
    """The repository's; a fork's run has one of its own. What they have in common are their first letters, under which
    caps are counted."""
    digest = hashlib.sha256(f"{repository.lower()} {fork}".encode()).hexdigest()[:12]
    path = repository.removeprefix(f"{policy.site.base}/")
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{path}-fork" if fork else path)
    return f"{_scope(policy)}{digest}.{readable}"[:_OWNER]


def _scope(policy: CiPolicy) -> str:
    return f"{policy.owner or 'ci'}."


def granted(policy: CiPolicy, session: Session, spec: JobSpec, site: Site) -> JobSpec:
    """The job as the policy grants it: what was left open is what the policy allows. Raises: Forbidden."""
    if spec.kind != "ci-runner" or site.url.lower() != session.repository.lower():
        what = "a CI run's session makes runners for its own repository and nothing else"
        raise Forbidden(what, hint=f"--repo {session.repository}")
    if spec.secrets or spec.env or spec.rerun_of:
        raise Forbidden("a CI run's runner takes no secrets and no variables", hint="give them to the workflow's steps")
    pool = spec.runner.pool if spec.runner is not None else ""
    if policy.pools and pool not in policy.pools:
        raise Forbidden("the policy grants machines of its pools", hint=f"--pool with one of {', '.join(policy.pools)}")
    who, caps = (session.repository, session.ref, session.run), (policy.max_instances, policy.max_usd_per_hour)
    origin = CiOrigin(*who, _scope(policy), *caps, policy.budget, speaks_of(policy))
    if pool:
        return replace(_of_pool(policy, spec, pool), origin=origin)
    lifetime_s = _at_most("max-lifetime", spec.max_lifetime_s, policy.max_lifetime_s)
    return replace(spec, need=_need(policy, spec.need), max_lifetime_s=lifetime_s, origin=origin)


def speaks_of(policy: CiPolicy) -> str:
    """The same as long as it lets in the same runs under the same name, whatever it grants them."""
    claims = sorted(policy.claims.items())
    who = (policy.issuer, policy.audience, policy.repositories, policy.refs, claims, _scope(policy))
    return hashlib.sha256(repr(who).encode()).hexdigest()[:16]


def under(policy: CiPolicy, origin: CiOrigin) -> CiOrigin:
    """With the caps and the budget that the policy has by now."""
    machines, usd_per_hour = policy.max_instances, policy.max_usd_per_hour
    return replace(origin, max_instances=machines, max_usd_per_hour=usd_per_hour, budget=policy.budget)


def _of_pool(policy: CiPolicy, spec: JobSpec, pool: str) -> JobSpec:
    """Whoever launches it cannot ask for less. Raises: Forbidden."""
    lifetime_s = min(spec.max_lifetime_s or policy.max_lifetime_s, policy.max_lifetime_s)
    try:
        return replace(spec, need=_need(policy, spec.need), max_lifetime_s=lifetime_s)
    except Forbidden as error:
        hint = "`ci:` and `pools:` of the controller's settings have to agree"
        raise Forbidden(f"machines of the pool {pool} are not granted: {error.message}", hint=hint) from error


def _need(policy: CiPolicy, need: Need) -> Need:
    """Raises: Forbidden."""
    need = replace(
        need,
        providers=_within("provider", need.providers, policy.providers),
        max_price=_at_most("max-price", need.max_price, policy.max_price),
    )
    gpu = (need.gpu.name or "").lower() if need.gpu is not None else ""
    if policy.gpus and gpu not in {name.lower() for name in policy.gpus}:
        raise Forbidden("the policy grants no such GPU", hint=f"--gpu with one of {', '.join(policy.gpus)}")
    return need


def _within(what: str, asked: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    if allowed and set(asked) - set(allowed):
        raise Forbidden(f"the policy grants no such {what}", hint=f"--{what} with one of {', '.join(allowed)}")
    return asked or allowed


_Number = TypeVar("_Number", Decimal, float)


def _at_most(what: str, asked: _Number | None, allowed: _Number | None) -> _Number | None:
    if allowed is None or asked is None:
        return allowed if asked is None else asked
    if asked > allowed:
        raise Forbidden(f"the policy grants less: --{what} is {asked:g}, at most {allowed:g}", hint="ask for less")
    return asked


def _like(repository: str, pattern: str) -> bool:
    """Forges tell repositories apart without regard to case. `*` stays within one part of the path."""
    parts, wanted = repository.lower().split("/"), pattern.lower().split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
