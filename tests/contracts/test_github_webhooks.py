"""Webhooks that the fake GitHub really sends arrive, and those that were lost are sent again and arrive once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import CiJobState, Site
from provisioner.forges.github.credentials import App
from provisioner.forges.github.deliveries import redeliver
from provisioner.forges.github.forge import GitHub
from provisioner.forges.github.webhooks import delivery
from tests.fakes.github.apps import key_pair
from tests.fakes.github.server import FakeGitHub
from tests.fakes.hand_clock import HandClock
from tests.fakes.hooks import Mischief
from tests.fakes.receiver import Receiver

from .forge_laws import LABELS
from .test_forge_github import clock, fake, forge, opened, site

__all__ = ["clock", "fake", "forge", "site"]  # fixtures
SECRET = "it is a secret"


@pytest.fixture
def receiver(fake: FakeGitHub) -> Iterator[Receiver]:
    with Receiver(lambda headers, body: delivery(fake.site(""), headers, body, SECRET)) as running:
        yield running
        fake.hooks.settle()


@pytest.fixture
async def app(fake: FakeGitHub) -> AsyncIterator[GitHub]:
    async for made in opened(fake, App(fake.accounts.client_id, key_pair()[0])):
        yield made


def test_a_jobs_life_is_told(fake: FakeGitHub, site: Site, receiver: Receiver) -> None:
    fake.hooks.add("acme", receiver.url, SECRET)
    run = fake.state.add_run(site.path, [list(LABELS), ["ubuntu-latest"]])
    for job in run.latest:
        fake.state.end(job, "success")
    fake.hooks.settle()
    queued, done = ("workflow_job", CiJobState.QUEUED), ("workflow_job", CiJobState.DONE)
    hosted = [("workflow_job", "queued"), ("workflow_job", "completed")]
    assert receiver.states() == [queued, hosted[0], done, hosted[1], ("workflow_run", "completed")]
    told = receiver.came[0].job
    assert told is not None
    assert told.key == (fake.url, str(run.latest[0].id), 1)
    assert receiver.came[-1].facts["fork"] == "no"


def test_what_is_not_signed_with_our_secret_raises(fake: FakeGitHub, site: Site) -> None:
    hook = fake.hooks.add("acme", "http://127.0.0.1:9/", "another secret")
    fake.state.add_run(site.path, [list(LABELS)])
    fake.hooks.settle()
    (sent,) = fake.hooks.of(hook)
    with pytest.raises(ForgeUnauthorized):
        delivery(fake.site(""), {"x-github-event": sent.event, "x-github-delivery": sent.guid}, sent.body, SECRET)


async def test_what_was_lost_is_sent_again_and_what_arrived_is_not(
    app: GitHub, fake: FakeGitHub, site: Site, receiver: Receiver
) -> None:
    """A third is lost; some come twice, and some out of order."""
    fake.hooks.add("", receiver.url, SECRET, ("workflow_job",))
    fake.hooks.mischief = Mischief(lose=0.34, double=0.1, late=0.1, seed=4)
    jobs = {str(fake.state.add_run(site.path, [list(LABELS)]).latest[0].id) for _ in range(150)}
    fake.hooks.settle()
    assert fake.hooks.mischief.lost > 30
    assert fake.hooks.mischief.doubled > 5
    again = await redeliver(app, fake.clock.now() - timedelta(minutes=30), receiver.url)
    assert len(again) == fake.hooks.mischief.lost
    fake.hooks.settle()
    assert {one.job.id for one in receiver.came if one.job} == jobs
    assert Counter(Counter(one.id for one in receiver.came).values())[2] == fake.hooks.mischief.doubled
    assert await redeliver(app, fake.clock.now() - timedelta(minutes=30), receiver.url) == []


@pytest.mark.parametrize("place", ["acme/vision", "acme"])
async def test_hooks_of_a_site_are_found_by_where_they_lead(
    forge: GitHub, fake: FakeGitHub, site: Site, receiver: Receiver, place: str
) -> None:
    fake.hooks.add(place, receiver.url, SECRET)
    fake.hooks.add(place, "http://127.0.0.1:9/of-others", "theirs")
    receiver.down = True
    fake.state.add_run(site.path, [list(LABELS)])
    fake.hooks.settle()
    receiver.down = False
    since = fake.clock.now() - timedelta(minutes=30)
    assert len(await redeliver(forge, since, receiver.url, [fake.site(place)])) == 1
    fake.hooks.settle()
    assert [state for _, state in receiver.states()] == [CiJobState.QUEUED]


async def test_what_failed_before_the_time_we_look_back_to_is_left_alone(
    app: GitHub, fake: FakeGitHub, site: Site, receiver: Receiver, clock: HandClock
) -> None:
    """And no page is read beyond it."""
    fake.hooks.add("", receiver.url, SECRET)
    receiver.down = True
    for _ in range(120):
        fake.state.add_run(site.path, [list(LABELS)])
    clock.move(3600.0)
    for _ in range(120):
        fake.state.add_run(site.path, [list(LABELS)])
    fake.hooks.settle()
    assert len(await redeliver(app, clock.now() - timedelta(minutes=30), receiver.url)) == 120
    assert len([one for one in fake.exchanges if one.method == "GET"]) == 2
