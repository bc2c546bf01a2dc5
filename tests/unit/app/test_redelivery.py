"""Which webhooks a forge is asked to send again: an App's own, or those that were set up at the pools' sites."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from provisioner.app.redelivery import redelivers
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.pools import Pool
from provisioner.forges.registry import known
from provisioner.settings import load

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
ACME = Site(ForgeKind("github"), "https://github.com", "acme")
HOOK = "https://runner.example/hooks/github"
SETTINGS = """
public_url: https://runner.example
forges:
  - {kind: github, webhook_secret_file: hook, %s}
"""


class Asked:
    """Stands for the forges: what they are asked for."""

    def __init__(self) -> None:
        self.of: list[tuple[str, tuple[Site, ...]]] = []

    async def redeliver(self, site: Site, since: datetime, url: str, sites: tuple[Site, ...]) -> tuple[str, ...]:
        self.of.append((url, sites))
        return ()


@pytest.mark.parametrize(
    ("opened_by", "asked"),
    [
        ("app_id: 7, private_key_file: key", [(HOOK, ())]),
        ("token_file: token", [(HOOK, (ACME,)), (f"{HOOK}/github.com", (ACME,))]),
    ],
)
async def test_an_apps_own_hook_is_asked_once_and_else_those_of_the_sites(
    tmp_path: Path, opened_by: str, asked: list[tuple[str, tuple[Site, ...]]]
) -> None:
    (tmp_path / "settings.yaml").write_text(SETTINGS % opened_by)
    forges = Asked()
    found = redelivers(load(tmp_path, {}, known()), [Pool("gpu", (ACME,), ("gpu",))], cast("Any", forges), known())
    await found["github.com"].redeliver(AT)
    assert forges.of == asked
