"""Webhooks that the fake GitLab and Gitea really send are understood, each forge's in its own way."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator

import pytest

from provisioner.domain.forge import CiJobState, Delivery, ForgeKind, Site
from provisioner.forges.gitea import webhooks as at_gitea
from provisioner.forges.gitlab import webhooks as at_gitlab
from tests.fakes.gitea.server import GiteaServer
from tests.fakes.gitlab.server import GitLabServer
from tests.fakes.hooks import Mischief
from tests.fakes.receiver import Receiver

SECRET = "it is a secret"
SIGNING = f"whsec_{base64.b64encode(bytes(32)).decode()}"


@pytest.fixture
def secret() -> str:
    return SECRET


@pytest.fixture
def lab() -> Iterator[GitLabServer]:
    with GitLabServer() as server:
        assert isinstance(server, GitLabServer)
        yield server


@pytest.fixture
def tea() -> Iterator[GiteaServer]:
    with GiteaServer() as server:
        assert isinstance(server, GiteaServer)
        yield server


@pytest.fixture
def from_lab(lab: GitLabServer, secret: str) -> Iterator[Receiver]:
    site = Site(ForgeKind("gitlab"), lab.url, "")
    with Receiver(lambda headers, body: at_gitlab.delivery(site, headers, body, secret)) as receiver:
        lab.hooks.add("team", receiver.url, secret)
        yield receiver
        lab.hooks.settle()


@pytest.fixture
def from_tea(tea: GiteaServer) -> Iterator[Receiver]:
    site = Site(ForgeKind("gitea"), tea.url, "")
    with Receiver(lambda headers, body: at_gitea.delivery(site, headers, body, SECRET)) as receiver:
        tea.hooks.add("vision/train", receiver.url, SECRET)
        yield receiver
        tea.hooks.settle()


def told(one: Delivery) -> tuple[str, str]:
    """Of which job: that it is to be asked for, or what it does."""
    return (one.job.id, one.job.state) if one.job else (one.facts.get("job", ""), one.facts.get("status", "held back"))


@pytest.mark.parametrize("secret", [SECRET, SIGNING], ids=["secret token", "signing token"])
def test_a_gitlab_job_is_told_of_from_its_pipelines_making_to_its_end(lab: GitLabServer, from_lab: Receiver) -> None:
    lab.state.queue("elsewhere/train", ["gpu"])
    job = lab.state.queue("team/vision/train", ["gpu"])
    lab.state.become(job, "running")
    lab.state.become(job, "success")
    lab.state.add_job(lab.state.pipelines[job.pipeline], "deploy", ["gpu"], held="manual")
    lab.hooks.settle()
    known = str(job.id)
    life = [(known, "pending"), (known, CiJobState.RUNNING), (known, CiJobState.DONE)]
    assert [told(one) for one in from_lab.came] == [("", "created"), *life, ("", "created"), ("", "manual")]


def test_a_gitea_job_is_told_of_with_its_labels_when_it_waits_for_a_runner(
    tea: GiteaServer, from_tea: Receiver
) -> None:
    job = tea.state.queue("vision/train", ["gpu"])
    tea.state.add_job(tea.state.runs[job.run], "deploy", ["gpu"], 1, "blocked")
    tea.state.become(job, "running")
    tea.state.finish(job, "success")
    tea.hooks.settle()
    known = str(job.id)
    assert [told(one) for one in from_tea.came] == [
        (known, CiJobState.QUEUED),
        ("", "held back"),
        (known, CiJobState.RUNNING),
        (known, CiJobState.DONE),
    ]
    assert from_tea.came[0].job is not None
    assert from_tea.came[0].job.labels == ("gpu",)


@pytest.mark.parametrize("kind", ["gitlab", "gitea"])
def test_what_is_lost_doubled_or_late_is_so_for_them_too(
    kind: str, lab: GitLabServer, tea: GiteaServer, from_lab: Receiver, from_tea: Receiver
) -> None:
    server, receiver = (lab, from_lab) if kind == "gitlab" else (tea, from_tea)
    server.hooks.mischief = mischief = Mischief(lose=0.3, double=0.2, late=0.2, seed=4)
    for _ in range(40):
        server.state.queue("team/vision" if kind == "gitlab" else "vision/train", ["gpu"])
    server.hooks.settle()
    sent = len(server.hooks.sent)
    counts = Counter(one.id for one in receiver.came)
    assert (len(counts), Counter(counts.values())[2]) == (sent - mischief.lost, mischief.doubled)
    assert min(mischief.lost, mischief.doubled) > 3
    came = list(dict.fromkeys(one.id for one in receiver.came))
    order = [one.guid for one in server.hooks.sent]
    assert came != sorted(came, key=lambda known: order.index(known.rpartition(" ")[2]))
