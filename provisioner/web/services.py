"""All that a request handler may use: handed over once by the composition root."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from provisioner.domain.ci import CiDoor
from provisioner.domain.credentials import Keyring
from provisioner.domain.demand import Demand, NoDemand, NoWebhooks, Webhooks
from provisioner.domain.errors import Forbidden
from provisioner.domain.forge import ForgeKeyring
from provisioner.domain.ghosts import Ghosts
from provisioner.domain.handing import HandOvers
from provisioner.domain.hosts import Hosting
from provisioner.domain.kinds import Kinds
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Desk, Logs, Objects
from provisioner.domain.registrar import Registrar
from provisioner.domain.store import Store

from .body import Strangers
from .ending import Ending

_MOST_REFUSED = 100  # recorded in a minute, so that nobody can fill the database; arbitrary


@dataclass
class Traffic:
    """What passed through since the start. `heard`: instance -> monotonic seconds of its last sync; `refused`: those of
    the latest refusals of CI runs."""

    syncs: int = 0
    log_bytes: int = 0
    heard: dict[str, float] = field(default_factory=dict)
    refused: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_REFUSED))


@dataclass
class Refused:
    """Webhooks that were refused since that was told: `told_s` monotonic seconds."""

    count: int = 0
    told_s: float | None = None


_RANDOM = random.SystemRandom()


@dataclass
class Shelf:
    """Files of final manifests by path, for the few attempts asked for last: a pull asks for each of its files."""

    most: int = 8
    kept: dict[tuple[str, int], dict[str, dict[str, Any]]] = field(default_factory=dict)

    def keep(self, key: tuple[str, int], files: dict[str, dict[str, Any]]) -> None:
        while len(self.kept) >= self.most:
            self.kept.pop(next(iter(self.kept)))
        self.kept[key] = files


@dataclass
class Shown:
    """The keys of images that each CI run published since the start: so many and no more, since a run may be anybody's
    who may push. The runs that came last are known, so that it does not grow without end."""

    most: int = 100  # arbitrary
    most_runs: int = 1000
    by_run: dict[str, set[str]] = field(default_factory=dict)

    def count(self, run: str, key: str) -> None:
        """The same one again is not counted again. Raises: Forbidden."""
        keys = self.by_run.pop(run, set())
        self.by_run[run] = keys
        while len(self.by_run) > self.most_runs:
            self.by_run.pop(next(iter(self.by_run)))
        if key not in keys and len(keys) >= self.most:
            raise Forbidden(f"this CI run has published {self.most} images, as many as one may", hint="show fewer")
        keys.add(key)


def _random_bits(count: int) -> int:
    return _RANDOM.getrandbits(count)


def _no_trouble() -> None:
    return None


def _no_file(sha256: str) -> Path | None:
    return None


@dataclass(frozen=True)
class Services:
    """`status` gives what the composition root knows; `shutdown(why)` ends the controller; `gc(dry_run, expired)`
    collects now, `ghosts` those at forges; `kinds` of these. `bits(n)` gives n random bits; `trouble()` when the engine
    last broke; `agent_file(sha256)` the agent's one file if it is this one; `keyring` takes credentials that commands
    hand over, where the controller has none of its own, `forge_keyring` those of forges; `ci` lets CI runs in;
    `public_url` where people's programs reach it, "" if nowhere; `paused()` which providers take no launches now, and
    why; `warnings()` what will soon be refused; `webhooks` tells genuine ones, and `demand` takes what they tell;
    `hand_overs` where the controller is a CI step's own."""

    store: Store
    desk: Desk
    logs: Logs
    objects: Objects
    clock: Clock
    policy: Policy
    session_key: bytes
    status: Callable[[], dict[str, Any]]
    shutdown: Callable[[str], None]
    gc: Callable[[bool, bool], Awaitable[dict[str, Any]]]
    hosting: Hosting
    registrar: Registrar
    ghosts: Ghosts
    kinds: Kinds
    bits: Callable[[int], int] = _random_bits
    agent_urls: Callable[[], Sequence[str]] = tuple
    trouble: Callable[[], tuple[datetime, str] | None] = _no_trouble
    public_url: str = ""
    agent_file: Callable[[str], Path | None] = _no_file
    keyring: Keyring | None = None
    forge_keyring: ForgeKeyring | None = None
    ci: CiDoor | None = None
    paused: Callable[[], Mapping[str, str]] = dict
    warnings: Callable[[], Sequence[str]] = tuple
    webhooks: Webhooks = field(default_factory=NoWebhooks)
    demand: Demand = field(default_factory=NoDemand)
    hand_overs: HandOvers | None = None
    ending: Ending = field(default_factory=Ending)
    traffic: Traffic = field(default_factory=Traffic)
    strangers: Strangers = field(default_factory=Strangers)
    refused: Refused = field(default_factory=Refused)
    shelf: Shelf = field(default_factory=Shelf)
    shown: Shown = field(default_factory=Shown)
