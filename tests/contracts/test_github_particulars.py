"""What is GitHub's own about being a forge: its races, limits, logins and addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from provisioner.domain.errors import (
    ForgeRefused,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
    RunnerBusy,
    StillRunning,
)
from provisioner.domain.forge import Conclusion, ForgeKind, Release, RunnerOrder, Site
from provisioner.forges.github.credentials import App, Token
from provisioner.forges.github.forge import AT_ONCE, GitHub
from provisioner.forges.line import REMOVALS
from tests.fakes.github.apps import key_pair
from tests.fakes.github.limits import REGISTRATION
from tests.fakes.github.server import Archive, FakeGitHub
from tests.fakes.hand_clock import HandClock

from .forge_laws import LABELS, ForgeWorld, How, order, shown, waiting
from .test_forge_github import LAG_S, TOKEN, clock, fake, forge, opened, site, world

__all__ = ["clock", "fake", "forge", "site", "world"]  # fixtures


@pytest.fixture
def at_once(fake: FakeGitHub) -> None:
    """Everything shows when it is there."""
    fake.state.lag_s = 0.0


# Runners


async def test_a_job_that_comes_between_the_look_and_the_delete_keeps_its_runner(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    given = await forge.register(site, order("runner-i-race"))
    world.start(given)
    world.queue(*LABELS)
    assert not (await shown(forge, site, world))["runner-i-race"].busy
    fake.taken_in_between.add("runner-i-race")
    with pytest.raises(RunnerBusy):
        await forge.remove(site, given.forge_id, given.name)
    assert world.records() == ["runner-i-race"]


async def test_what_was_made_anew_under_the_name_goes_too(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub, at_once: None
) -> None:
    """The id that is known is of a record that was replaced, and the answer to that was lost."""
    old = await forge.register(site, order("runner-i-anew"))
    world.trouble("register", How.AFTER)
    fake.state.remove(fake.state.living(site.path)[0])
    with pytest.raises(ForgeUnreachable):
        await forge.register(site, order("runner-i-anew"))
    assert world.records() == ["runner-i-anew"]
    await forge.remove(site, old.forge_id, old.name)
    assert world.records() == []


async def test_a_runner_of_an_organisation_is_in_its_group(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    fake.groups["acme"] = {"gpus": 7}
    acme = fake.site("acme")
    await forge.register(acme, RunnerOrder("runner-i-group", LABELS, "gpus"))
    assert [record.group_id for record in fake.state.living("acme")] == [7]
    with pytest.raises(ForgeRefused, match="no runner group 'cpus'"):
        await forge.register(acme, RunnerOrder("runner-i-none", LABELS, "cpus"))
    with pytest.raises(ForgeRefused, match="a repository has no runner groups"):
        await forge.register(site, RunnerOrder("runner-i-none", LABELS, "gpus"))


async def test_two_hundred_runners_are_registered_as_fast_as_is_allowed_and_no_faster(
    forge: GitHub, site: Site, fake: FakeGitHub, clock: HandClock
) -> None:
    for number in range(200):
        try:
            await forge.register(site, order(f"runner-i-{number}"))
        except ForgeThrottled as throttled:
            await clock.sleep(throttled.retry_after_s or 0.0)
            await forge.register(site, order(f"runner-i-{number}"))
    pattern = next(name for name in fake.limits.most_in_a_minute if "generate-jitconfig" in name)
    assert fake.limits.most_in_a_minute[pattern] <= 180
    assert clock.monotonic() <= 60 + 2


async def test_only_so_many_are_asked_at_once_and_removals_have_places_of_their_own(
    forge: GitHub, site: Site, fake: FakeGitHub
) -> None:
    await forge.runners(site)
    before = fake.asked()
    with fake.state.lock:
        asking = [asyncio.ensure_future(forge.runners(site)) for _ in range(AT_ONCE + 10)]
        await _until(lambda: fake.asked() - before >= AT_ONCE)
        asking += [asyncio.ensure_future(forge.remove(site, "9", "runner-i-9")) for _ in range(REMOVALS + 3)]
        await _until(lambda: fake.asked() - before >= AT_ONCE + REMOVALS)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert fake.asked() - before == AT_ONCE + REMOVALS
    await asyncio.gather(*asking)


# Jobs


async def test_all_repositories_of_an_organisation_are_looked_at(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    ids = [world.queue(*LABELS)]
    for number in range(3):
        name = fake.add_repository(f"acme/repo-{number}").path
        ids.append(str(fake.state.add_run(name, [["gpu-a100"]]).latest[0].id))
    fake.add_repository("other/repo")
    fake.state.add_run("other/repo", [["gpu-a100"]])
    assert await waiting(forge, fake.site("acme"), world) == sorted(ids)


async def test_a_job_waits_while_another_of_its_run_has_begun(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    run = fake.state.add_run(site.path, [list(LABELS), ["gpu-a100"]])
    world.start(await forge.register(site, order("runner-i-one")))
    assert world.give(str(run.latest[0].id)) == "runner-i-one"
    assert run.status == "in_progress"
    assert await waiting(forge, site, world) == [str(run.latest[1].id)]


@pytest.mark.parametrize("status", ["waiting", "pending"])
async def test_a_job_is_found_beside_one_that_waits_for_an_approval_or_for_its_turn(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub, at_once: None, status: str
) -> None:
    """Their run is neither queued nor in progress, as GitHub tells it; and what waits for no runner is not found."""
    run = fake.state.add_run(site.path, [list(LABELS), list(LABELS)])
    fake.state.hold(run.latest[1], status)
    assert run.status == status
    assert await waiting(forge, site, world) == [str(run.latest[0].id)]
    world.start(await forge.register(site, order("runner-i-one")))
    assert world.give(str(run.latest[0].id)) == "runner-i-one"
    assert (await waiting(forge, site, world), run.status) == ([], status)
    fake.state.release(run.latest[1])
    assert await waiting(forge, site, world) == [str(run.latest[1].id)]


async def test_a_fork_is_told_by_its_run(forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub) -> None:
    """One whose repository was deleted meanwhile is not trusted either."""
    for head in ("mallory/vision", site.path):
        fake.state.add_run(site.path, [list(LABELS)], head=head, event="pull_request")
    gone = fake.state.add_run(site.path, [list(LABELS)], event="pull_request")
    gone.head = ""
    await world.clock.sleep(LAG_S)
    jobs = await forge.queued(site)
    assert sorted(str(job.fork) for job in jobs) == ["False", "True", "True"]
    assert [(await forge.job(site, site.path, job.id)) for job in jobs] == list(jobs)


@pytest.mark.system
async def test_more_runs_than_one_search_reaches_are_all_found(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    fake.limits.primary = fake.limits.points = 50_000
    ids = []
    for at in range(1050):
        world.clock.move(1.0 if at % 20 == 0 else 0.0)
        ids.append(str(fake.state.add_run(site.path, [list(LABELS)]).latest[0].id))
    assert await waiting(forge, site, world) == sorted(ids)


async def test_each_interrupted_job_of_a_run_is_run_again(
    forge: GitHub, site: Site, world: ForgeWorld, fake: FakeGitHub
) -> None:
    """The second, while the first runs again, has to wait: what that attempt carried over of it is no new run."""
    run = fake.state.add_run(site.path, [["a"], ["b"]])
    jobs = [await forge.job(site, site.path, str(row.id)) for row in run.latest]
    for row in list(run.latest):
        fake.state.end(row, "failure")
    first, second = (job for job in jobs if job is not None)
    world.clock.move(60.0)
    await forge.rerun(site, first)
    with pytest.raises(StillRunning):
        await forge.rerun(site, second)
    fake.state.end(run.latest[0], "success")
    await forge.rerun(site, second)
    assert (run.attempt, [row.status for row in run.latest]) == (3, ["completed", "queued"])
    await forge.rerun(site, first)
    assert run.attempt == 3


async def test_a_rerun_that_we_have_no_right_to_is_told_from_one_that_comes_too_early(
    forge: GitHub, site: Site, fake: FakeGitHub
) -> None:
    run = fake.state.add_run(site.path, [["a"]])
    job = await forge.job(site, site.path, str(run.latest[0].id))
    assert job is not None
    fake.denied.add("rerun")
    with pytest.raises(StillRunning):
        await forge.rerun(site, job)
    fake.state.end(run.latest[0], "failure")
    with pytest.raises(ForgeUnauthorized, match="403"):
        await forge.rerun(site, job)


async def test_looking_again_at_what_has_not_changed_costs_nothing_of_the_hour(
    forge: GitHub, world: ForgeWorld, fake: FakeGitHub
) -> None:
    for number in range(30):
        fake.add_repository(f"acme/repo-{number}")
    acme = fake.site("acme")
    await forge.queued(acme)
    used = fake.limits.used()
    assert used == 4 * 30 + 1 + 4  # with acme/vision's four
    assert await forge.queued(acme) == []
    assert fake.limits.used() == used
    job = fake.state.add_run("acme/repo-7", [list(LABELS)]).latest[0]
    assert await waiting(forge, acme, world) == [str(job.id)]
    assert fake.limits.used() == used + 2


async def test_our_own_count_of_the_hour_leaves_out_what_cost_nothing(
    forge: GitHub, world: ForgeWorld, fake: FakeGitHub, clock: HandClock
) -> None:
    """Or polls would stop after a few passes, with nearly the whole allowance unused."""
    fake.limits.primary = 100
    for number in range(9):
        fake.add_repository(f"acme/repo-{number}")
    acme = fake.site("acme")
    for _ in range(6):
        clock.move(50.0)
        await forge.queued(acme)
    assert (fake.limits.used(), fake.asked()) == (41, 6 * 41)


# The program


async def test_the_program_is_the_one_that_github_lists_and_its_end_is_seen(
    forge: GitHub, site: Site, fake: FakeGitHub
) -> None:
    fake.publish(b"arm", "2.331.0", machine="arm64")
    archive = fake.publish(b"program", "2.330.0")
    found = await forge.software(site, "linux", "x86_64")
    assert (found.name, found.version, found.sha256) == ("actions-runner", "2.330.0", archive.sha256)
    assert found.url.endswith("/actions-runner-linux-x64-2.330.0.tar.gz")
    assert found.refused_at is None
    ends = {"runtime_deprecates_at": "2027-03-01T00:00:00Z", "registration_deprecates_at": "2027-02-01T00:00:00Z"}
    fake.deprecations["2.330.0"] = dict(ends)
    assert (await forge.software(site, "linux", "x86_64")).refused_at == datetime(2027, 2, 1, tzinfo=UTC)
    assert (await forge.software(site, "linux", "aarch64")).version == "2.331.0"
    with pytest.raises(ForgeRefused, match="no runner for linux on riscv64"):
        await forge.software(site, "linux", "riscv64")


async def test_a_mirror_has_the_program_and_the_sha256_of_what_github_does_not_list(
    fake: FakeGitHub, site: Site
) -> None:
    fake.publish(b"newest", "2.330.0")
    old = Archive(b"older", "2.329.0", "linux", "x64")
    fake.mirrored.append(old)
    mirror = f"{fake.url}/_downloads"
    for release, version in ((Release("", mirror), "2.330.0"), (Release("2.329.0", mirror + "/"), "2.329.0")):
        forge = GitHub(fake.url, Token(TOKEN), fake.clock, release=release)
        found = await forge.software(site, "linux", "x86_64")
        archive = old if version == old.version else fake.archives[0]
        assert (found.version, found.sha256) == (version, archive.sha256)
        assert found.url == f"{mirror}/v{version}/actions-runner-linux-x64-{version}.tar.gz"
        await forge.close()
    forge = GitHub(fake.url, Token(TOKEN), fake.clock, release=Release("2.329.0"))
    with pytest.raises(ForgeRefused, match=r"tells no sha256 of its runner 2\.329\.0"):
        await forge.software(site, "linux", "x86_64")
    await forge.close()


async def test_a_version_whose_sha256_is_pinned_is_fetched_from_github_itself(fake: FakeGitHub, site: Site) -> None:
    fake.publish(b"newest", "2.330.0")
    for version, pinned in (("2.329.0", "ab" * 32), ("2.330.0", "cd" * 32)):
        forge = GitHub(fake.url, Token(TOKEN), fake.clock, release=Release(version, sha256={"x86_64": pinned}))
        found = await forge.software(site, "linux", "x86_64")
        assert (found.version, found.sha256) == (version, pinned)
        assert found.url.endswith(f"v{version}/actions-runner-linux-x64-{version}.tar.gz")
        await forge.close()
    forge = GitHub(fake.url, Token(TOKEN), fake.clock, release=Release("2.330.0", sha256={"aarch64": "ab" * 32}))
    with pytest.raises(ForgeRefused, match=r"pin the runner program 2\.330\.0 for aarch64, not for x86_64"):
        await forge.software(site, "linux", "x86_64")
    await forge.close()


# Logins


async def test_an_installations_token_is_kept_and_renewed_well_before_its_end(
    fake: FakeGitHub, site: Site, clock: HandClock
) -> None:
    async for app in opened(fake, App(fake.accounts.client_id, key_pair()[0])):
        for _ in range(6):
            await app.runners(site)
            clock.move(600.0)
        assert len(fake.accounts.issued) == 2
        assert all(one.status in (200, 304) for one in fake.exchanges if one.method == "GET")


async def test_a_token_that_was_revoked_is_asked_for_again(fake: FakeGitHub, site: Site) -> None:
    async for app in opened(fake, App(fake.accounts.client_id, key_pair()[0])):
        await app.runners(site)
        fake.accounts.revoke()
        with pytest.raises(ForgeUnauthorized):
            await app.runners(site)
        assert await app.runners(site) == []


async def test_an_app_that_is_not_installed_says_so(fake: FakeGitHub) -> None:
    elsewhere = fake.add_repository("elsewhere/vision")
    async for app in opened(fake, App(fake.accounts.client_id, key_pair()[0])):
        with pytest.raises(ForgeUnauthorized, match="not installed at") as caught:
            await app.runners(elsewhere)
        assert "install it there" in caught.value.line


async def test_a_key_that_is_none_is_never_shown(fake: FakeGitHub, site: Site) -> None:
    async for app in opened(fake, App("Iv1", "no key at all")):
        with pytest.raises(ForgeUnauthorized, match="not an RSA key") as caught:
            await app.runners(site)
        assert "no key at all" not in caught.value.line


async def test_a_check_by_a_token_that_may_make_none_is_a_commit_status(
    forge: GitHub, site: Site, fake: FakeGitHub
) -> None:
    fake.denied.add("check")
    address = await forge.check(site, "d" * 40, "gate", Conclusion.FAILURE, "t" * 200, "text")
    assert address == f"{site.url}/commit/{'d' * 40}"
    assert [(one.name, one.conclusion) for one in fake.reviews.checks] == [("gate", "failure")]


# Addresses


async def test_a_repository_that_was_renamed_is_followed(forge: GitHub, fake: FakeGitHub, world: ForgeWorld) -> None:
    old = fake.add_repository("acme/old")
    fake.add_repository("acme/new")
    given = await forge.register(old, order("runner-i-moved"))
    fake.moved["acme/old"] = "acme/new"
    fake.state.records[-1].scope = "acme/new"
    await forge.remove(old, given.forge_id, given.name)
    assert fake.state.living("acme/new") == []


async def test_what_does_not_exist_says_what_to_look_at(forge: GitHub, fake: FakeGitHub) -> None:
    with pytest.raises(ForgeRefused, match="404 Not Found") as caught:
        await forge.runners(fake.site("acme/nowhere"))
    assert "may not see it" in caught.value.line


@pytest.mark.parametrize("path", ["", "a/b/c"])
async def test_a_place_without_runners_is_refused_before_anything_is_asked(
    forge: GitHub, fake: FakeGitHub, path: str
) -> None:
    with pytest.raises(ForgeRefused, match="a repository or an organisation"):
        await forge.runners(Site(ForgeKind("github"), fake.url, path))
    assert fake.asked() == 0


async def test_the_limit_for_registrations_is_its_own(forge: GitHub, site: Site, fake: FakeGitHub) -> None:
    """Nothing may be looked at any more, and runners are still registered."""
    fake.limits.primary = 3
    for _ in range(3):
        try:
            await forge.job(site, site.path, "999")
        except ForgeThrottled:
            break
    with pytest.raises(ForgeThrottled):
        await forge.job(site, site.path, "999")
    assert (await forge.register(site, order("runner-i-more"))).secret
    assert fake.limits.used(REGISTRATION) == 1


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to be")
