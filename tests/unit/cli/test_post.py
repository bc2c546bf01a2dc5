"""Reports and comments from a CI step to the fake forges, by the command as it is: created once, brought up to date."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner.app.clock import SystemClock
from provisioner.reports.post import mark
from tests.fakes.api_server import FakeApi, Script
from tests.fakes.forge_http import Asked
from tests.fakes.github.apps import TOKEN
from tests.fakes.github.description import mismatches
from tests.fakes.github.server import FakeGitHub
from tests.fakes.gitlab.server import TOKEN as GITLAB_TOKEN
from tests.fakes.gitlab.server import GitLabServer
from tests.fakes.gitlab.world import PROJECT
from tests.unit.reports.parsed import parse

from .terminal import Terminal

HEAD, MERGE = "a" * 40, "b" * 40
THREAD = "acme/vision/issues/42"


@pytest.fixture
def github(terminal: Terminal) -> Iterator[FakeGitHub]:
    """A workflow's step on pull request 42. What passed is held against GitHub's description at the end."""
    fake = FakeGitHub(SystemClock())
    fake.start()
    fake.add_repository("acme/vision")
    event = terminal.folder / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 42, "head": {"sha": HEAD}, "base": {"ref": "main"}}}))
    terminal.extra = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": fake.url,
        "GITHUB_API_URL": f"{fake.url}/api/v3",
        "GITHUB_REPOSITORY": "acme/vision",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_SHA": MERGE,
        "GITHUB_STEP_SUMMARY": str(terminal.folder / "summary.md"),
        "GITHUB_TOKEN": TOKEN,
    }
    yield fake
    fake.stop()
    assert mismatches(fake.exchanges) == []


@pytest.fixture
def gitlab(terminal: Terminal) -> Iterator[GitLabServer]:
    """A merge request's pipeline, below a relative root."""
    with GitLabServer(root="/gitlab") as fake:
        assert isinstance(fake, GitLabServer)
        fake.state.project(PROJECT)
        terminal.extra = {
            "GITLAB_CI": "true",
            "CI_SERVER_URL": fake.url,
            "CI_API_V4_URL": f"{fake.url}/api/v4",
            "CI_PROJECT_PATH": PROJECT,
            "CI_MERGE_REQUEST_IID": "7",
            "CI_COMMIT_SHA": HEAD,
            "GITLAB_TOKEN": GITLAB_TOKEN,
        }
        yield fake


def measured(terminal: Terminal, loss: float) -> None:
    (terminal.folder / "metrics.json").write_text(json.dumps({"loss": loss}))


def ours(fake: FakeGitHub, key: str = "Report") -> list[str]:
    return [one.body for one in fake.reviews.of(THREAD) if one.body.startswith(mark(key))]


def test_on_a_thread_of_250_a_report_is_created_once_and_then_updated(terminal: Terminal, github: FakeGitHub) -> None:
    for number in range(250):
        github.reviews.add(THREAD, f"comment {number}")
    for loss in (2.0, 1.0):
        measured(terminal, loss)
        done = terminal.run("report", "--post", "--metric", "loss <= 1.5")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr.startswith(f"runner: {github.url}/acme/vision/issues/42#comment-")
        assert TOKEN not in done.stderr
    assert len(github.reviews.of(THREAD)) == 251
    (body,) = ours(github)
    assert ["loss", "1"] in parse(body).tables[1]
    assert [(one.sha, one.name, one.conclusion) for one in github.reviews.checks] == [
        (HEAD, "Report", "failure"),
        (HEAD, "Report", "success"),
    ]
    assert github.reviews.checks[1].output["title"] == "1 of 1 gate passed"
    assert (terminal.folder / "summary.md").read_text().count("## Report") == 2


def test_a_report_that_is_longer_than_a_comment_is_shortened(terminal: Terminal, github: FakeGitHub) -> None:
    numbers = {f"a_metric_with_a_name_that_takes_room_{number}": number for number in range(5000)}
    (terminal.folder / "metrics.json").write_text(json.dumps(numbers))
    assert terminal.run("report", "--post", "--no-check").returncode == 0
    (body,) = ours(github)
    assert 30_000 < len(body) <= 65_536
    assert "more metrics left out" in body
    assert len(parse(body).tables[0][-1]) == 2
    assert github.reviews.checks == []


def test_a_comment_is_added_each_time_and_an_updated_one_is_not(terminal: Terminal, github: FakeGitHub) -> None:
    for text in ("one", "two"):
        assert terminal.run("comment", "create", "-", stdin=text).returncode == 0
        done = terminal.run("comment", "update", "-", "--title", "mine", stdin=text)
        assert done.stdout.startswith(github.url)
    said = [one.body for one in github.reviews.of(THREAD)]
    assert said == ["one", f"{mark('mine')}\ntwo", "two"]
    done = terminal.run("comment", "create", "-", "--target", f"commit/{HEAD}", "--json", stdin="three")
    assert json.loads(done.stdout)["target"] == f"commit/{HEAD}"
    assert [one.body for one in github.reviews.of(f"acme/vision/commits/{HEAD}")] == ["three"]


def test_a_comments_own_images_are_published(terminal: Terminal, github: FakeGitHub, api: FakeApi) -> None:
    (terminal.folder / "plot.png").write_bytes(b"\x89PNG")
    text = "![a](plot.png) ![b](https://x.example/y.png) ![c](absent.png) `![d](plot.png)`\n```\n![e](plot.png)\n```\n"
    (terminal.folder / "a.md").write_text(text)
    done = terminal.run("comment", "create", "a.md", "--publish")
    assert done.returncode == 0, done.stderr
    (comment,) = github.reviews.of(THREAD)
    assert [url.partition("?")[0].rpartition("/")[2] for _, url in parse(comment.body).images] == [
        "plot.png",
        "y.png",
        "absent.png",
    ]
    assert api.published == {"plot.png": b"\x89PNG"}
    assert comment.body.endswith("`![d](plot.png)`\n```\n![e](plot.png)\n```\n")


def test_too_long_a_comment_is_refused_and_nothing_is_posted(terminal: Terminal, github: FakeGitHub) -> None:
    done = terminal.run("comment", "create", "-", stdin="x" * 70_000)
    assert done.returncode == 2
    assert done.stderr == (
        "runner: the comment has 70000 characters, and github takes 65536; shorten it; nothing was posted\n"
    )
    assert github.reviews.of(THREAD) == []


def test_a_token_that_may_not_comment_is_one_line(terminal: Terminal, github: FakeGitHub) -> None:
    """A fork's pull request has such a one. The step's summary has the report all the same."""
    measured(terminal, 1)
    terminal.extra["GITHUB_TOKEN"] = "ghp_of-nobody"
    done = terminal.run("report", "--post")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "401" in done.stderr
    assert "ghp_of-nobody" not in done.stderr
    assert "| `loss` | 1 |" in (terminal.folder / "summary.md").read_text()


def test_a_watched_report_is_one_comment_to_the_jobs_end(terminal: Terminal, github: FakeGitHub, api: FakeApi) -> None:
    api.script = Script(files={"metrics.json": b'{"loss": 4}'}, wait_for_cancel=True)
    api.submit("j-1", {"run": "x"})
    watching = terminal.begin("report", "j-1", "--post", "--watch", "--every", "1")
    try:
        api.wait_for(lambda: ours(github) and "| `loss` | 4 |" in ours(github)[0])
        assert github.reviews.checks == []
        api.script.files = {"metrics.json": b'{"loss": 3}'}
        api.end("j-1", "succeeded", 0)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.communicate()
    (body,) = ours(github)
    assert "| `loss` | 3 |" in body
    assert "| state | succeeded |" in body
    assert [one.conclusion for one in github.reviews.checks] == ["neutral"]


def test_on_gitlab_it_is_a_note_and_a_status(terminal: Terminal, gitlab: GitLabServer) -> None:
    for loss in (2.0, 1.0):
        measured(terminal, loss)
        done = terminal.run("report", "--post", "--metric", "loss <= 1.5")
        assert done.returncode == 0, done.stderr
    (note,) = gitlab.state.notes
    assert (note.where[0], note.where[2]) == ("merge_requests", "7")
    assert "1 of 1 gate passed" in note.body
    assert [(one.sha, one.name, one.state) for one in gitlab.state.statuses] == [
        (HEAD, "Report", "failed"),
        (HEAD, "Report", "success"),
    ]


def test_two_steps_that_post_at_the_same_time_make_one_comment(terminal: Terminal, gitlab: GitLabServer) -> None:
    """Both have looked and found nothing before either of them adds."""
    measured(terminal, 1)
    both = threading.Barrier(2, timeout=60)

    def wait_for_the_other(asked: Asked) -> None:
        if asked.name.startswith("POST") and asked.name.endswith("/notes"):
            both.wait()

    gitlab.before = wait_for_the_other
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: terminal.run("report", "--post", "--no-check"), range(2)))
    assert [one.returncode for one in done] == [0, 0], done
    assert len(gitlab.state.notes) == 1
    place = f"{gitlab.url}/{PROJECT}/-/merge_requests/7#note_{gitlab.state.notes[0].id}"
    assert {one.stderr for one in done} == {f"runner: {place}\n"}


def test_the_event_of_a_step_must_be_readable(terminal: Terminal, github: FakeGitHub) -> None:
    Path(terminal.extra["GITHUB_EVENT_PATH"]).write_text("{")
    done = terminal.run("comment", "create", "-", stdin="x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot read the event in" in done.stderr
