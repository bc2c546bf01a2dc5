"""How many runners a pool ought to have: by counts, fairly, within its caps, whatever order things came in."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.pools import (
    FREE,
    Ask,
    Pool,
    PoolRunner,
    Stage,
    Supply,
    Taken,
    Window,
    owner_of,
    repository_of,
    sort_out,
    supply,
    untaken,
)

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)  # a Monday
BASE = "https://github.com"
ACME = Site(ForgeKind("github"), BASE, "acme")
APP = Site(ForgeKind("github"), BASE, "acme/app")
OTHER = Site(ForgeKind("github"), BASE, "other/lib")
POOL = Pool("gpu", (ACME,), ("self-hosted", "gpu"), max=10)


def job(number: int, repository: str = "acme/app", labels: tuple[str, ...] = ("gpu",), **more: object) -> CiJob:
    site = Site(ForgeKind("github"), BASE, repository)
    given: dict[str, object] = {"run_id": "r", "fork": False, **more}
    at = NOW + timedelta(seconds=number)
    return CiJob(str(number), site, repository, CiJobState.QUEUED, labels, at, **given)  # type: ignore[arg-type]


def runner(
    number: int, stage: Stage = Stage.IDLE, repository: str = "", site: Site = ACME, idle_s: float = 0
) -> PoolRunner:
    return PoolRunner(f"j-{number}", site, repository, stage, idle_s)


def on_demand(number: int, stage: Stage = Stage.IDLE, idle_s: float = 0) -> PoolRunner:
    return replace(runner(number, stage, idle_s=idle_s), on_demand=True)


def asked(found: Supply) -> Counter[str]:
    return Counter(ask.repository for ask in found.launch)


def test_as_many_runners_without_a_job_as_jobs_that_wait() -> None:
    there = [runner(1, Stage.COMING), runner(2, Stage.BUSY, "acme/app"), runner(3, Stage.WAITING)]
    found = supply(POOL, [job(n) for n in range(5)], there, 0, NOW)
    assert (asked(found), found.retire, found.wanted) == ({"acme/app": 3}, (), 5)


def test_a_runner_that_was_stolen_is_replaced() -> None:
    """It was made for one repository's job and took another's: the first still waits, and nobody is free."""
    found = supply(POOL, [job(1)], [runner(1, Stage.BUSY, "acme/lib")], 0, NOW)
    assert found.launch == (Ask(ACME, "acme/app"),)


def test_one_that_is_to_go_serves_nobody() -> None:
    assert len(supply(POOL, [job(1)], [runner(1, Stage.ENDING)], 0, NOW).launch) == 1


def test_never_more_than_the_most_with_machines_that_outlast_their_runners() -> None:
    pool = replace(POOL, max=5)
    there = [runner(1, Stage.BUSY, "acme/app"), runner(2, Stage.ENDING)]
    found = supply(pool, [job(n) for n in range(9)], there, 2, NOW)
    assert (len(found.launch), found.held_back) == (1, 8)


def test_repositories_get_the_same_however_many_jobs_one_of_them_has() -> None:
    jobs = [job(n, "acme/loud") for n in range(50)] + [job(90 + n, "acme/quiet") for n in range(3)]
    assert asked(supply(replace(POOL, max=6), jobs, [], 0, NOW)) == {"acme/loud": 3, "acme/quiet": 3}
    assert asked(supply(replace(POOL, max=20), jobs, [], 0, NOW)) == {"acme/loud": 17, "acme/quiet": 3}


def test_who_has_many_at_work_waits_for_who_has_none() -> None:
    there = [runner(n, Stage.BUSY, "acme/loud") for n in range(4)]
    jobs = [job(n, "acme/loud") for n in range(4)] + [job(9, "acme/quiet")]
    assert asked(supply(replace(POOL, max=5), jobs, there, 0, NOW)) == {"acme/quiet": 1}


def test_as_many_on_demand_ones_as_jobs_wait_that_lost_a_machine() -> None:
    jobs = [job(n) for n in range(4)]
    again = {jobs[2].key, jobs[3].key}
    found = supply(POOL, jobs, [], 0, NOW, again)
    assert [ask.on_demand for ask in found.launch] == [True, True, False, False]
    there = [on_demand(1, Stage.COMING), runner(2, Stage.COMING)]
    assert [ask.on_demand for ask in supply(POOL, jobs, there, 0, NOW, again).launch] == [True, False]
    at_work = replace(on_demand(1), stage=Stage.BUSY)
    assert [ask.on_demand for ask in supply(POOL, jobs[3:], [at_work], 0, NOW, again).launch] == [True]


def test_a_free_runner_of_either_market_is_enough_for_any_job() -> None:
    """A forge gives it to whichever it likes: none is launched beside it, and none goes."""
    jobs, there = [job(1), job(2)], [runner(1, idle_s=9999), on_demand(2)]
    for again in (set(), {jobs[0].key}, {jobs[0].key, jobs[1].key}):
        found = supply(POOL, jobs, there, 0, NOW, again)
        assert (found.launch, found.retire) == ((), ())


def test_of_too_many_the_on_demand_ones_stay_for_jobs_that_lost_a_machine() -> None:
    lost, there = job(1), [on_demand(1, idle_s=9999), runner(2, idle_s=700), runner(3, idle_s=800)]
    assert supply(POOL, [lost], there, 0, NOW, {lost.key}).retire == ("j-3", "j-2")
    assert supply(POOL, [lost], there, 0, NOW).retire == ("j-1", "j-3")


def test_a_repositorys_cap_counts_what_it_has_at_work() -> None:
    pool = replace(POOL, per_repository=3)
    there = [runner(1, Stage.BUSY, "acme/app"), runner(2, Stage.IDLE)]
    found = supply(pool, [job(n) for n in range(9)], there, 0, NOW)
    assert (asked(found), found.capped, found.held_back) == ({"acme/app": 1}, 7, 7)


def test_some_are_kept_ready_beside_those_that_jobs_wait_for() -> None:
    pool = replace(POOL, min_idle=2)
    assert supply(pool, [], [], 0, NOW).launch == (Ask(ACME), Ask(ACME))
    found = supply(pool, [job(1)], [runner(1), runner(2), runner(3, Stage.BUSY)], 0, NOW)
    assert (found.launch, found.wanted) == ((Ask(ACME),), 3)


def test_jobs_come_before_what_is_kept_ready() -> None:
    found = supply(replace(POOL, min_idle=2, max=2), [job(1)], [], 0, NOW)
    assert found.launch == (Ask(ACME, "acme/app"), Ask(ACME))


def test_too_many_go_once_they_have_waited_long_enough_and_at_once_without_a_machine() -> None:
    there = [runner(1, idle_s=599), runner(2, idle_s=600), runner(3, Stage.WAITING), runner(4, Stage.COMING)]
    assert supply(POOL, [], there, 0, NOW).retire == ("j-3", "j-2")
    assert supply(POOL, [job(1), job(2), job(3)], there, 0, NOW).retire == ("j-3",)
    impatient = replace(POOL, idle_timeout_s=0)
    assert set(supply(impatient, [], there, 0, NOW).retire) == {"j-1", "j-2", "j-3", "j-4"}


def test_who_is_at_work_is_never_too_many() -> None:
    there = [runner(n, Stage.BUSY, idle_s=9999) for n in range(5)]
    assert supply(POOL, [], there, 0, NOW).retire == ()


def test_idle_ones_of_one_site_make_room_for_jobs_of_another() -> None:
    pool = replace(POOL, sites=(APP, OTHER), max=2)
    there = [runner(1, site=APP), runner(2, site=APP, idle_s=5)]
    found = supply(pool, [job(1, "other/lib")], there, 0, NOW)
    assert (found.launch, found.retire) == ((), ("j-2", "j-1"))
    assert supply(replace(pool, max=3), [job(1, "other/lib")], there, 0, NOW).retire == ()


def test_each_job_counts_once_for_the_pool_that_fits_it_most_narrowly() -> None:
    wide = Pool("wide", (ACME,), ("self-hosted", "gpu", "a100"), max=9)
    here = Pool("here", (APP,), ("self-hosted", "gpu"), max=9)
    jobs = [job(1), job(2, "acme/lib"), job(3, labels=("A100",)), job(4, labels=("h100",)), job(5, "acmes/app")]
    found = sort_out((wide, POOL, here), jobs)
    assert {name: [one.id for one in mine] for name, mine in found.by_pool.items()} == {
        "wide": ["3"],
        "gpu": ["2"],
        "here": ["1"],
    }


def test_a_forks_job_is_served_only_where_forks_are_trusted() -> None:
    forked, unclear = job(1, fork=True), job(2, fork=None)
    found = sort_out((POOL,), [forked, unclear])
    assert found.by_pool == {"gpu": []}
    assert [(one.id, "fork" in why) for one, why in found.refused] == [("1", True)]
    assert [one.id for one in found.untold] == ["2"]
    trusting = replace(POOL, name="open", labels=("gpu", "a", "b"), forks=True)
    assert [one.id for one in sort_out((POOL, trusting), [forked, unclear]).by_pool["open"]] == ["1", "2"]


def test_a_job_whose_labels_are_not_told_is_asked_for_and_serves_nobody() -> None:
    found = sort_out((POOL,), [job(1, labels=(), fork=None), job(2, labels=()), job(3, "other/x", (), fork=None)])
    assert ([one.id for one in found.untold], found.by_pool) == (["1"], {"gpu": []})


def test_a_job_that_a_runner_says_it_has_begun_waits_no_more() -> None:
    jobs = [job(1), job(2), job(3, run_id="else"), job(4, labels=("a100",))]
    taken = Taken("runner-i-1", ACME, POOL.labels, "Acme/App", "r", "train", NOW)
    assert [one.id for one in untaken(jobs, [taken])] == ["2", "3", "4"]
    named = replace(taken, job="2")
    assert [one.id for one in untaken(jobs, [named])] == ["1", "3", "4"]
    assert len(untaken(jobs, [taken] * 9)) == 2


def test_a_runner_that_does_not_say_which_job_it_has_begun_has_one_that_waited_by_then() -> None:
    jobs = [job(1, labels=("a100",)), job(2, "other/app"), job(3), job(4)]
    taken = Taken("runner-i-1", ACME, POOL.labels, "", "", "", jobs[2].created_at)
    assert [one.id for one in untaken(jobs, [taken])] == ["1", "2", "4"]
    later = [replace(one, created_at=taken.at + timedelta(seconds=1)) for one in jobs]
    assert untaken(later, [taken]) == later


@pytest.mark.parametrize(
    ("window", "at", "holds"),
    [
        (Window(frozenset(range(5)), 480, 1080), "2026-01-05T08:00", True),
        (Window(frozenset(range(5)), 480, 1080), "2026-01-05T18:00", False),
        (Window(frozenset(range(5)), 480, 1080), "2026-01-04T09:00", False),
        (Window(frozenset({0}), 1320, 360), "2026-01-06T05:59", True),
        (Window(frozenset({0}), 1320, 360), "2026-01-05T05:59", False),
        (Window(frozenset({6}), 1320, 360), "2026-01-05T05:59", True),
        (Window(frozenset({0}), 0, 1440), "2026-01-05T23:59", True),
        (Window(frozenset({0}), 480, 1080, "America/New_York"), "2026-01-05T12:59", False),
        (Window(frozenset({0}), 480, 1080, "America/New_York"), "2026-07-06T12:00", True),
    ],
)
def test_windows_hold_by_the_clocks_of_their_zone(window: Window, at: str, holds: bool) -> None:
    assert window.holds(datetime.fromisoformat(at).replace(tzinfo=UTC)) is holds


def test_outside_of_its_windows_nothing_is_kept_ready() -> None:
    pool = replace(POOL, min_idle=2, windows=(Window(frozenset({5}), 0, 1440),))
    assert supply(pool, [], [runner(1, idle_s=9999)], 0, NOW).retire == ("j-1",)


def test_an_owner_says_whom_the_runner_was_made_for() -> None:
    assert repository_of(owner_of(POOL, Ask(ACME, "acme/app"))) == "acme/app"
    assert repository_of(owner_of(POOL, Ask(ACME))) == ""


repositories = st.sampled_from(["acme/app", "acme/lib", "other/lib", "elsewhere/x"])
sites = st.sampled_from([ACME, OTHER])
crews = st.lists(st.tuples(st.sampled_from(list(Stage)), repositories, sites, st.floats(0, 1200)), max_size=12)
pools = st.builds(
    lambda most, idle, cap, wait_s: Pool(
        "p", (ACME, OTHER), ("gpu",), max=most, min_idle=idle, per_repository=cap, idle_timeout_s=wait_s
    ),
    st.integers(0, 10),
    st.integers(0, 3),
    st.none() | st.integers(1, 4),
    st.sampled_from([0.0, 600.0]),
)


@settings(max_examples=300, deadline=None)
@given(pools, st.lists(repositories, max_size=15), crews, st.integers(0, 4))
def test_whatever_there_is_one_turn_brings_it_to_rest(
    pool: Pool, waiting: list[str], crew: list[tuple[Stage, str, Site, float]], machines: int
) -> None:
    jobs = [one for n, name in enumerate(waiting) if pool.site_of(one := job(n, name))]
    there = [PoolRunner(f"j-{n}", site, name, stage, idle_s) for n, (stage, name, site, idle_s) in enumerate(crew)]
    found = supply(pool, jobs, there, machines, NOW)
    by_id = {one.job_id: one for one in there}
    assert len(found.launch) <= max(0, pool.max - len(there) - machines)
    assert all(by_id[key].stage in FREE for key in found.retire)
    after = [one for one in there if one.job_id not in found.retire]
    after += [PoolRunner(f"new-{n}", ask.site, ask.repository, Stage.WAITING) for n, ask in enumerate(found.launch)]
    free = Counter(one.site for one in after if one.stage in FREE)
    allowed = Counter[str](one.repository for one in there if one.stage is Stage.BUSY)
    wanted = Counter[Site]()
    for one in jobs:
        if pool.per_repository is None or allowed[one.repository] < pool.per_repository:
            allowed[one.repository] += 1
            wanted[ACME if one.repository.startswith("acme/") else OTHER] += 1
    full = len(there) + len(found.launch) + machines >= pool.max
    assert full or all(free[site] >= count for site, count in wanted.items())
    # what is retired was needed by nobody, and what stays at rest
    kept = Counter(one.site for one in there if one.stage in FREE and one.job_id not in found.retire)
    for site in {by_id[key].site for key in found.retire}:
        assert kept[site] >= wanted[site] + (pool.min_idle if site == ACME else 0)
    again = supply(pool, jobs, after, machines, NOW)
    assert again.launch == () or found.retire
    assert not again.retire


@settings(max_examples=200, deadline=None)
@given(st.lists(repositories, max_size=20), st.integers(0, 12), st.randoms())
def test_the_order_in_which_jobs_came_in_decides_nothing(waiting: list[str], most: int, dice: object) -> None:
    pool = Pool("p", (ACME, OTHER), ("gpu",), max=most)
    jobs = [job(n, name) for n, name in enumerate(waiting)]
    mixed = list(jobs)
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    first = supply(pool, sort_out((pool,), jobs).by_pool["p"], [], 0, NOW)
    assert supply(pool, sort_out((pool,), mixed).by_pool["p"], [], 0, NOW) == first
