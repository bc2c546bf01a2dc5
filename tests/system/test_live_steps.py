"""The steps of the live test on the booting cloud, so that they still work on the day when somebody pays for them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from provisioner.domain.policy import Policy
from tests.fakes import booting
from tests.fakes.booting import BootingCloud
from tests.live.steps import Plan, rented_and_gone
from tests.system import test_aws
from tests.system.test_aws import controlled

cloud = test_aws.cloud


def test_the_most_that_it_may_cost_counts_every_second_that_the_machine_may_live() -> None:
    plan, policy = Plan(max_usd_per_hour=Decimal("0.03"), lifetime_s=1200.0), Policy()
    assert (policy.boot_timeout_s, policy.drain_s, policy.deadman_bound_s) == (900.0, 600.0, 1800.0)
    assert plan.at_most_usd == Decimal("0.0375")


@pytest.mark.system
@pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can")
def test_the_live_steps_work_where_nobody_pays(cloud: BootingCloud, tmp_path: Path) -> None:
    with controlled(cloud, tmp_path) as w:
        rented_and_gone(w, Plan(patience_s=90.0), tmp_path / "pulled")
    assert len(cloud.ended) == 1
