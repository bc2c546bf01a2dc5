"""The console of a machine that never came to work: kept before its end, and never in the way of it."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import Unreachable
from provisioner.domain.job import Why
from provisioner.engine.consoles import Consoles
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import POLICY, Cloud, Scene

TOKEN = "jt_" + "ab" * 32


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def kept(store: SimStore, cloud: Cloud, why: Why, *, ready: bool = False) -> tuple[list[str], str, float]:
    """Lines recorded, the job that they are of, and the seconds that it took."""

    async def main() -> tuple[list[str], str, float]:
        scene = Scene(store)
        instance = await scene.instance(why=why, ready=ready)
        began_s = scene.clock.monotonic()
        await Consoles(scene.port, {"sim": cloud}, scene.clock, POLICY).keep(instance)
        events = await scene.told("instance.console")
        lines = [line for event in events for line in event.data["lines"]]
        return lines, events[0].job_id if events else "", scene.clock.monotonic() - began_s

    return run_virtually(main())


@pytest.mark.parametrize("why", [Why.BOOT_TIMEOUT, Why.UNHEALTHY, Why.LOST, Why.PREEMPTED])
def test_what_it_printed_last_is_an_event_of_its_job(store: SimStore, why: Why) -> None:
    lines, job, _ = kept(store, Cloud(text=f"\x1b[1mboot\x1b[0m\ntoken {TOKEN}\nagent.not_fetched"), why)
    assert (lines, job) == (["boot", "token [masked]", "agent.not_fetched"], "j-1")


def test_nobody_is_asked_about_one_that_came_to_work_or_was_not_wanted(store: SimStore) -> None:
    cloud = Cloud(text="hello")
    assert kept(store, cloud, Why.LOST, ready=True)[0] == []
    assert kept(store, cloud, Why.NOT_NEEDED)[0] == []
    assert cloud.calls == []


def test_an_empty_console_is_no_event(store: SimStore) -> None:
    assert kept(store, Cloud(text=" \n"), Why.BOOT_TIMEOUT)[0] == []


@pytest.mark.parametrize("error", [Unreachable("no answer"), ValueError("a bug")])
def test_no_error_holds_up_the_end(store: SimStore, error: Exception) -> None:
    assert kept(store, Cloud(fails=[error]), Why.BOOT_TIMEOUT)[0] == []


def test_a_cloud_that_does_not_answer_is_waited_for_three_seconds(store: SimStore) -> None:
    lines, _, took_s = kept(store, Cloud(text="late", slow_s=600.0), Why.BOOT_TIMEOUT)
    assert (lines, took_s) == ([], 3.0)
