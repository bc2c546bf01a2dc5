"""What a machine is given at launch: the agent's configuration with its single-use join token.

The token is a keyed hash of the instance's id: launching again under the same name gives the same order (L1), and no
token is ever stored in clear.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import timedelta

from provisioner.bootstrap.config import agent_config
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Records

ConfigFor = Callable[[Instance], Awaitable[str]]


def config_for(
    records: Records,
    clock: Clock,
    policy: Policy,
    key: bytes,
    urls: Callable[[Instance], Awaitable[Sequence[str]]],
    ca_pem: str = "",
) -> ConfigFor:
    """The engine asks it before each launch; it also tells the store to expect that join."""

    async def make(instance: Instance) -> str:
        token = "jt_" + hmac.new(key, f"join|{instance.id}".encode(), hashlib.sha256).hexdigest()
        expires_at = clock.now() + timedelta(seconds=policy.launch_timeout_s + policy.boot_timeout_s)
        await records.expect_join(instance.id, hashlib.sha256(token.encode()).hexdigest(), expires_at)
        return json.dumps(
            asdict(
                agent_config(
                    instance=instance.id,
                    name=instance.name,
                    provider=instance.offer.provider,
                    urls=list(await urls(instance)),
                    join_token=token,
                    idle_s=instance.idle_timeout_s or 0.0,
                    lifetime_s=instance.max_lifetime_s,
                    policy=policy,
                    gpu=None if instance.offer.provider == "local" else instance.offer.gpu,
                    ca_pem=ca_pem,
                )
            )
        )

    return make
