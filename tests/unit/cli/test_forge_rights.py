"""Rights at forges, as commands hand them to an embedded controller."""

from __future__ import annotations

from tests.fakes.api_server import FakeApi, Script

from .step import TOKEN
from .terminal import Terminal

REPO = ("launch", "--repo", "https://github.com/acme/vision")


def test_the_token_of_the_environment_goes_to_the_embedded_controller(here: Terminal, api: FakeApi) -> None:
    done = here.run(*REPO)
    assert api.sent("PUT", "/forges/github") == [{"url": "https://github.com/acme/vision", "token": TOKEN, "api": ""}]
    assert TOKEN not in done.stdout + done.stderr


def test_a_forge_that_the_settings_open_needs_none(here: Terminal, api: FakeApi) -> None:
    del here.extra["RUNNER_FORGE_TOKEN"]
    api.forges = {"https://github.com": {"kind": "github", "opened": True}}
    assert here.run(*REPO).returncode == 0
    assert api.sent("PUT", "/forges") == []


def test_the_settings_may_name_a_variable_of_the_command(here: Terminal, api: FakeApi) -> None:
    here.extra = {"OUR_TOKEN": TOKEN, "GITHUB_TOKEN": "another"}
    api.forges = {"https://github.com": {"kind": "github", "opened": False, "variable": "OUR_TOKEN"}}
    assert here.run(*REPO).returncode == 0
    assert api.sent("PUT", "/forges/github")[0]["token"] == TOKEN


def test_without_any_it_is_said_where_one_is_looked_for(here: Terminal, api: FakeApi) -> None:
    del here.extra["RUNNER_FORGE_TOKEN"]
    done = here.run(*REPO)
    assert (done.returncode, api.jobs) == (2, {})
    assert "no token for github; set RUNNER_FORGE_TOKEN or GITHUB_TOKEN in the step's environment" in done.stderr


def test_a_workflows_own_token_is_told_what_can_instead(here: Terminal, api: FakeApi) -> None:
    here.extra = {"GITHUB_ACTIONS": "true", "GITHUB_TOKEN": "ghs_of-the-workflow"}
    error = {"kind": "Conflict", "message": "https://github.com/acme/vision was not opened: 403", "hint": "look"}
    api.refuse["PUT", "/forges/github"] = (409, error)
    done = here.run(*REPO)
    assert (done.returncode, api.jobs) == (3, {})
    (line,) = done.stderr.splitlines()
    assert line.startswith("runner: a workflow's own GITHUB_TOKEN cannot make runners (https://github.com/acme/vision")
    assert "RUNNER_FORGE_TOKEN; a GitHub App, under `forges:` of the settings; or a controller" in line


def test_who_waits_hands_the_right_over_again_when_the_controller_lost_it(here: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    with here.begin(*REPO) as running:
        api.wait_for(lambda: api.sent("GET", "/events"))
        api.health = {"ok": True, "paused": {"https://github.com/acme/vision": "no runners there: no rights"}}
        api.wait_for(lambda: len(api.sent("PUT", "/forges/github")) == 2)
        (job_id,) = api.jobs
        api.event(job_id, "runner.online", "")
        running.communicate(timeout=30)
    assert running.returncode == 0


def test_a_collection_hands_it_over_for_what_is_left_at_the_forge(here: Terminal, api: FakeApi) -> None:
    here.extra = {"GITHUB_TOKEN": TOKEN}
    api.health = {"ok": True, "paused": {"https://github.com/acme/vision": "no runners there: no rights"}}
    done = here.run("gc", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert api.sent("PUT", "/forges/github")[0]["url"] == "https://github.com/acme/vision"


def test_ghosts_at_a_forge_are_looked_at_twice_under_the_right_of_the_environment(here: Terminal, api: FakeApi) -> None:
    words = ("gc", "--repo", "https://github.com/acme/vision", "--wait", "10ms")
    assert here.run(*words).stderr == "runner: nothing to collect\n"
    api.ghosts = {"runner-a": "", "runner-b": "it has a job"}
    done = here.run(*words, "--dry-run")
    assert (done.returncode, done.stdout) == (0, "runner-a found\nrunner-b found\n")
    assert done.stderr == "runner: 2 runners offline at https://github.com/acme/vision; looking again in 0.01 s\n"
    done = here.run(*words, "--older-than", "0")
    assert (done.returncode, done.stdout) == (3, "runner-a ended\nrunner-b found\n")
    assert done.stderr.endswith("runner: 1 runner stayed; runner-b: it has a job; run it again\n")
    look = {"url": "https://github.com/acme/vision", "forge": "github", "base": "", "older_than_s": 0.0}
    assert api.sent("POST", "/gc/runners")[-2:] == [look, look | {"seen": [*api.ghosts], "remove": True}]
    assert {one["token"] for one in api.sent("PUT", "/forges/github")} == {TOKEN}
    assert here.run(*words, "--expired").returncode == 2
