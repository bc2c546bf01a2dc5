"""One machine rented for real, within a budget, by the steps that the system tier takes on the booting cloud.

`python -m pytest tests/live --live --live-url https://HOST:PORT`: see docs/how-to/live-tests.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.system.served import served
from tests.system.world import World, world

from .steps import Plan, rented_and_gone


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """Asked for, and within the budget; nothing was asked of AWS before."""
    if not request.config.getoption("--live"):
        pytest.skip("costs money: --live asks for it (docs/how-to/live-tests.md)")
    plan = Plan(region=str(request.config.getoption("--live-region")))
    budget = float(request.config.getoption("--live-budget"))
    assert plan.at_most_usd <= budget, f"it may cost ${plan.at_most_usd:.4f}, and --live-budget is ${budget:.4f}"
    return plan


@pytest.fixture
def controlled(request: pytest.FixtureRequest, plan: Plan, tmp_path: Path) -> Iterator[World]:
    """A controller at real time-outs, at the address that machines reach."""
    url = str(request.config.getoption("--live-url"))
    assert urlsplit(url).port, "--live-url https://HOST:PORT says where machines reach this computer"
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with world(tmp_path, scale="1", extra=credentials) as w:
        w.home.mkdir(mode=0o700)
        (w.home / "settings.yaml").write_text(settings(plan, url, str(request.config.getoption("--live-profile"))))
        with served(w, "--host", "0.0.0.0", "--tls", "auto", port=int(urlsplit(url).port or 0)):
            yield w


def settings(plan: Plan, url: str, profile: str) -> str:
    return (
        f"public_url: {url}\nmax_instances: 1\nmax_usd_per_hour: {plan.max_usd_per_hour}\n"
        f"aws: {{enabled: true, regions: [{plan.region}], profile: '{profile}'}}\n"
    )


@pytest.mark.timeout(3600)
def test_a_machine_is_rented_does_its_job_and_is_gone(controlled: World, plan: Plan, tmp_path: Path) -> None:
    rented_and_gone(controlled, plan, tmp_path / "pulled")
