"""What a machine is given at launch: the agent's configuration with its single-use join token.

The token is a keyed hash of the instance's id: launching again under the same name gives the same order (L1), and no
token is ever stored in clear. When it expires is ours alone to know, and may therefore be put off: a launch can wait
for its turn for hours, and its machine has the whole of its boot before it all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import timedelta

from provisioner.bootstrap.config import agent_config
from provisioner.domain.handing import unattended
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Records, Store


class Joining:
    """Makes configurations, and tells the store which joins to expect until when."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        policy: Policy,
        key: bytes,
        urls: Callable[[Instance], Awaitable[Sequence[str]]],
        ca_pem: str = "",
        limits: Callable[[], Awaitable[Policy]] | None = None,
    ) -> None:
        """`limits` is what machines go by instead of `policy`; the same for a machine however often it is asked."""
        self._records = records
        self._clock = clock
        self._policy = policy
        self._key = key
        self._urls = urls
        self._ca_pem = ca_pem
        self._limits = limits

    async def config(self, instance: Instance) -> str:
        """For the engine, before each launch."""
        await self._expect(instance, self._policy.launch_timeout_s + self._policy.boot_timeout_s)
        return json.dumps(
            asdict(
                agent_config(
                    instance=instance.id,
                    name=instance.name,
                    provider=instance.offer.provider,
                    urls=list(await self._urls(instance)),
                    join_token=self._token(instance),
                    idle_s=instance.idle_timeout_s or 0.0,
                    lifetime_s=instance.max_lifetime_s,
                    policy=self._policy if self._limits is None else await self._limits(),
                    gpu=None if instance.offer.provider == "local" else instance.offer.gpu,
                    ca_pem=self._ca_pem,
                )
            )
        )

    async def launched(self, instance: Instance) -> None:
        """For the engine, once there is a machine: from now on it boots."""
        await self._expect(instance, self._policy.boot_timeout_s)

    async def _expect(self, instance: Instance, within_s: float) -> None:
        expires_at = self._clock.now() + timedelta(seconds=within_s)
        token = hashlib.sha256(self._token(instance).encode()).hexdigest()
        await self._records.expect_join(instance.id, token, expires_at)

    def _token(self, instance: Instance) -> str:
        return "jt_" + hmac.new(self._key, f"join|{instance.id}".encode(), hashlib.sha256).hexdigest()


async def limits_of_step(store: Store, policy: Policy) -> Policy:
    """For the machines of a CI step's own controller: its jobs are of one launch, and wait for work equally long."""
    jobs = await store.jobs.find()
    return unattended(policy, min((job.spec.runner.idle_s for job in jobs if job.spec.runner), default=0.0))
