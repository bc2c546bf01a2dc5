"""What a runner was heard to have begun, until the forge tells of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.pools import Taken
from provisioner.engine.takings import Takings
from tests.fakes.hand_clock import BEGAN_AT, HandClock

SITE = Site(ForgeKind("gitlab"), "https://forge.example", "acme/vision")


async def nobody(names: Any) -> dict[str, str]:
    return {}


async def test_that_it_has_a_job_may_be_seen_before_its_hook_says_which() -> None:
    def twice(site: Site, at: datetime) -> bool:
        return False

    store = SimpleNamespace(ci_jobs=SimpleNamespace(begun_by=nobody))
    takings = Takings(cast(Any, store), cast(Any, SimpleNamespace(twice_since=twice)), HandClock())
    seen = Taken("runner-i-1", SITE, ("gpu",), "acme/vision", "", "", BEGAN_AT)
    said = replace(seen, run="7", job="train")
    assert await takings.still([seen]) == [seen]
    assert await takings.still([said]) == [said]
    assert await takings.still([replace(said, run="", job="")]) == [said]
