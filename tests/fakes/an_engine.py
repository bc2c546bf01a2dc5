"""The engine as most of its tests want it: one controller, the policy as it is, and machines that need no words."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Store
from provisioner.engine import Engine


def an_engine(store: Store, clock: Clock, providers: Mapping[str, Provider], **more: Any) -> Engine:
    """`more` is the engine's own, instead of what is said here. Jobs that name no provider may have all of them."""
    said: dict[str, Any] = {
        "policy": Policy(),
        "rng": random.Random(1),
        "config_for": _no_config,
        "holder": "test",
        "default_providers": tuple(providers),
    }
    return Engine(store=store, clock=clock, providers=providers, **{**said, **more})


async def _no_config(instance: Instance) -> str:
    return "{}"
