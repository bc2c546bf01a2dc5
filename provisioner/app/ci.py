"""The CiDoor port: a CI job's token in, a session of ours out. Sessions are written nowhere: each is its own proof.

A session's text says what it is and until when, under a seal that only controllers of this database can make. It ends
with its hour, or with the policy that granted it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec

from provisioner.domain.budget import Budget, Period
from provisioner.domain.ci import (
    CiClaims,
    CiPolicy,
    Session,
    Vouching,
    admit,
    check_fork,
    read_claims,
    session_of,
    speaks_of,
    under,
)
from provisioner.domain.errors import ForgeError, InvalidRequest, Unauthenticated
from provisioner.domain.extras import installed_by
from provisioner.domain.forge import ForgeKind, Forges, Site
from provisioner.domain.job import CiOrigin
from provisioner.domain.kinds import Kinds
from provisioner.domain.ports import Clock
from provisioner.forge_settings import CiSettings
from provisioner.forges.oidc import Issuers
from provisioner.forges.registry import known
from provisioner.web.auth import CI_PREFIX


class Door:
    def __init__(
        self,
        policies: Sequence[CiPolicy],
        issuers: Issuers,
        forges: Forges,
        clock: Clock,
        key: bytes,
        kinds: Kinds | None = None,
    ) -> None:
        self._policies = policies
        self._speaking_of = {speaks_of(one): one for one in reversed(policies)}  # of two alike the first counts
        self._issuers = issuers
        self._forges = forges
        self._clock = clock
        self._kinds = known() if kinds is None else kinds
        self._key = hmac.new(key, b"ci sessions", hashlib.sha256).digest()

    async def exchange(self, token: str) -> tuple[Session, str]:
        told = await self._issuers.claims(token, {one.audience for one in self._policies})
        issuer, made_out_to = str(told["iss"]), told["aud"]
        kind = next(one.site.kind for one in self._policies if one.issuer == issuer)
        claims = read_claims(self._vouching(kind), told)
        audiences = [made_out_to] if isinstance(made_out_to, str) else list(made_out_to)
        policy = admit(self._policies, issuer, audiences, claims)
        fork = claims.fork if claims.fork is not None else await self._asked(policy, claims)
        check_fork(policy, claims, fork)
        session = session_of(policy, claims, fork is not False, self._clock.now())
        return session, self._sealed(session)

    def _vouching(self, kind: str) -> Vouching:
        """Raises: Unauthenticated, where such a forge signs for nobody."""
        if (found := self._kinds.of(kind).vouching) is None:
            raise Unauthenticated(f"{kind} vouches for no CI run", hint="see `ci:` of the controller's settings")
        return found

    async def _asked(self, policy: CiPolicy, claims: CiClaims) -> bool | None:
        """Whether the forge itself says that the job is of a fork; None when it cannot be asked."""
        if policy.pull_requests == "refused" or not claims.job_id:
            return None
        site = Site(policy.site.kind, policy.site.base, claims.repository)
        try:
            job = await self._forges.of(site).job(site, claims.repository, claims.job_id)
        except ForgeError:
            return None
        return job.fork if job is not None else None

    def session(self, text: str) -> Session:
        body, _, seal = text.removeprefix(CI_PREFIX).partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body).encode()):
            raise Unauthenticated("this session was not given by this controller", hint="exchange your token again")
        told = json.loads(base64.urlsafe_b64decode(body))
        session = Session(**(told | {"expires_at": datetime.fromisoformat(told["expires_at"])}))
        if session.expires_at <= self._clock.now():
            raise Unauthenticated("this session has ended", hint="exchange a fresh token for another")
        self.granted(session)
        return session

    def granted(self, session: Session) -> CiPolicy:
        for policy in self._policies:
            if policy.key == session.policy:
                return policy
        raise Unauthenticated("the policy that granted this session was changed", hint="exchange a fresh token")

    def as_now(self, origin: CiOrigin) -> CiOrigin:
        """What its policy allows by now; where there is no such policy any more, as it was granted."""
        policy = self._speaking_of.get(origin.policy)
        return origin if policy is None else under(policy, origin)

    def _sealed(self, session: Session) -> str:
        plain = json.dumps(asdict(session) | {"expires_at": session.expires_at.isoformat()})
        body = base64.urlsafe_b64encode(plain.encode()).decode()
        return f"{CI_PREFIX}{body}.{self._seal(body)}"

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, body.encode(errors="replace"), hashlib.sha256).hexdigest()

    async def close(self) -> None:
        await self._issuers.close()


def door(
    settings: Sequence[CiSettings], public_url: str, forges: Forges, clock: Clock, key: bytes, kinds: Kinds
) -> Door | None:
    """None where the settings let nobody in. Raises: InvalidRequest where what reads tokens is not installed."""
    if not settings:
        return None
    if find_spec("jwt") is None or find_spec("httpx2") is None:
        raise InvalidRequest("`ci:` of the settings needs PyJWT and httpx2", hint=installed_by("forges"))
    policies = [policy_of(one, public_url) for one in settings]
    return Door(policies, Issuers({one.issuer for one in policies}, clock), forges, clock, key, kinds)


def policy_of(one: CiSettings, public_url: str) -> CiPolicy:
    return CiPolicy(
        site=Site(ForgeKind(one.kind), one.forge, ""),
        issuer=one.issuer,
        audience=one.audience or public_url,
        repositories=one.repositories,
        refs=one.refs,
        claims=one.claims,
        pull_requests=one.pull_requests,
        owner=one.owner,
        max_instances=one.max_instances,
        max_usd_per_hour=one.max_usd_per_hour,
        max_lifetime_s=one.max_lifetime_h * 3600,
        max_price=one.max_price,
        gpus=one.gpus,
        providers=one.providers,
        pools=one.pools,
        budget=None if one.budget is None else Budget(one.budget.usd, Period(one.budget.per)),
        key=hashlib.sha256(one.model_dump_json().encode()).hexdigest()[:16],
    )
