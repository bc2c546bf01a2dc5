"""GitHub behind the Forge and Reviews ports keeps their laws, as an App and with a personal token."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.forge import Registration, Reviews, Site, Target
from provisioner.forges.github.credentials import App, Token
from provisioner.forges.github.forge import GitHub
from tests.fakes.github import runner_api
from tests.fakes.github.apps import TOKEN, key_pair
from tests.fakes.github.description import mismatches
from tests.fakes.github.server import FakeGitHub, trouble
from tests.fakes.hand_clock import HandClock

from .forge_laws import AllowanceLaws, ForgeLaws, ForgeWorld, How
from .reviews_laws import ReviewsLaws

LAG_S = 4.0
_HOW = {How.BEFORE: "before", How.AFTER: "after", How.CUT: "cut", How.SILENT: "silent", How.DENIED: "401"}


class GitHubWorld:
    """Both worlds of the laws, over the fake."""

    targets = (Target("pr", "7"), Target("issue", "8"), Target("commit", "c" * 40))
    sha = "d" * 40

    def __init__(self, fake: FakeGitHub, clock: HandClock, site: Site) -> None:
        self.fake, self.clock, self.site = fake, clock, site

    @property
    def credentials(self) -> tuple[str, ...]:
        return (TOKEN, key_pair()[0].splitlines()[1], *self.fake.accounts.issued)

    def records(self) -> list[str]:
        return [record.name for record in self.fake.state.living(self.site.path)]

    def labels_of(self, name: str) -> list[str]:
        return next(one.labels for one in self.fake.state.living(self.site.path) if one.name == name)

    def seed(self, names: list[str]) -> None:
        for name in names:
            self.fake.state.register(self.site.path, name, ["gpu"])

    def start(self, given: Registration) -> None:
        files = json.loads(base64.b64decode(given.secret))
        token = json.loads(base64.b64decode(files[".credentials"]))["Data"]["token"]
        answer = runner_api.answer(self.fake, "POST", "/sessions", {}, token, {"version": "2.330.0"})
        if answer.status != 201:
            raise ValueError(answer.body["message"])
        record = next(one for one in self.fake.state.records if one.token == token)
        record.heard_s = float("inf")

    def queue(self, *labels: str) -> str:
        """In a run that has begun nothing yet, as a matrix has many jobs; or in one of its own."""
        state = self.fake.state
        fresh = [run for run in state.runs.values() if {job.status for job in run.latest} == {"queued"}]
        for run in fresh:
            if run.attempt == 1 and len(run.latest) < 150:
                return str(state.add_job(run, list(labels)).id)
        return str(state.add_run(self.site.path, [list(labels)]).latest[0].id)

    def queue_hosted(self) -> str:
        return self.queue("ubuntu-latest")

    def give(self, job_id: str) -> str:
        record = self.fake.state.give(self.fake.state.jobs[int(job_id)])
        return record.name if record else ""

    def finish(self, job_id: str) -> None:
        self.fake.state.end(self.fake.state.jobs[int(job_id)], "failure")

    def trouble(self, call: str, how: How, *, skip: int = 0, times: int = 1) -> None:
        self.fake.troubles.append(trouble({"taken": "queued"}.get(call, call), _HOW[how], skip, times))

    def throttle(self, seconds: float) -> None:
        self.fake.limits.refuse(seconds)

    def spend(self, left: float) -> None:
        self.fake.limits.spend(left)

    def asked(self) -> int:
        return self.fake.asked()

    def said(self, target: Target) -> list[str]:
        return [comment.body for comment in self.fake.reviews.of(self._thread(target))]

    def say(self, target: Target, bodies: list[str]) -> None:
        for body in bodies:
            self.fake.reviews.add(self._thread(target), body)

    def checks(self) -> list[tuple[str, str, str]]:
        return [(one.sha, one.name, one.conclusion) for one in self.fake.reviews.checks]

    def _thread(self, target: Target) -> str:
        return f"{self.site.path}/{'commits' if target.what == 'commit' else 'issues'}/{target.ref}"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def fake(clock: HandClock) -> Iterator[FakeGitHub]:
    """What passed between client and server is held against GitHub's own description at the end of every test."""
    running = FakeGitHub(clock)
    running.state.lag_s = LAG_S
    running.start()
    yield running
    running.stop()
    assert mismatches(running.exchanges) == []
    assert running.limits.ignored == 0


@pytest.fixture
def site(fake: FakeGitHub) -> Site:
    return fake.add_repository("acme/vision")


@pytest.fixture
def world(fake: FakeGitHub, clock: HandClock, site: Site) -> ForgeWorld:
    return GitHubWorld(fake, clock, site)


async def opened(fake: FakeGitHub, credential: App | Token) -> AsyncIterator[GitHub]:
    made = GitHub(fake.url, credential, fake.clock, timeout_s=2.0, visibility_s=LAG_S + 1)
    yield made
    await made.close()


@pytest.fixture
async def forge(fake: FakeGitHub) -> AsyncIterator[GitHub]:
    async for made in opened(fake, Token(TOKEN)):
        yield made


class TestWithAToken(ForgeLaws, AllowanceLaws):
    """The ordinary way of a person."""


class TestAsAnApp(ForgeLaws, AllowanceLaws):
    @pytest.fixture
    async def forge(self, fake: FakeGitHub) -> AsyncIterator[GitHub]:
        async for made in opened(fake, App(fake.accounts.client_id, key_pair()[0])):
            yield made


class TestReviews(ReviewsLaws):
    def test_the_adapter_says_that_it_has_them(self, forge: GitHub) -> None:
        assert isinstance(forge, Reviews)
