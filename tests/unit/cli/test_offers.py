"""`runner offers`: from a controller where one runs, from the files where none does, and how old what it says is."""

from __future__ import annotations

import json

from tests.fakes.api_server import FakeApi

from .terminal import Terminal


def test_without_a_controller_the_snapshot_answers_and_none_is_started(terminal: Terminal) -> None:
    done = terminal.run("offers", "--instance-type", "g4dn.xlarge", "--region", "us-east-1,us-west-2", "--json")
    assert done.returncode == 0, done.stderr
    found = [one for one in json.loads(done.stdout) if one["offer"]["provider"] == "aws"]
    assert {one["offer"]["region"] for one in found} == {"us-east-1", "us-west-2"}
    assert {one["refused"] for one in found} == {"AWS is not enabled in the settings: aws.enabled"}
    assert all(one["id"] == one["text"] and one["age_s"] >= 0 for one in found if one["offer"]["usd_per_hour"])
    assert all(one["priced_at"] is None for one in found if one["offer"]["usd_per_hour"] is None)
    (line,) = done.stderr.splitlines()
    assert line.startswith("runner: prices of SkyPilot catalogue v8, commit 00148f2af367, 2026-11-21 are ")
    assert not terminal.api_path.exists()


def test_a_controller_that_runs_is_asked_in_sizes_that_it_knows(terminal: Terminal, api: FakeApi) -> None:
    assert terminal.run("offers", "--cpus", "8+", "--provider", "local,gcp", "--region", "here").returncode == 0
    assert api.sent("GET", "/offers") == [{"cpus": "8", "provider": "local,gcp", "region": "here"}]


def test_a_provider_that_the_controller_does_not_use_is_looked_up_here(terminal: Terminal, api: FakeApi) -> None:
    api.providers = ["local"]
    done = terminal.run("offers", "--provider", "aws", "--instance-type", "g4dn.xlarge", "--region", "us-east-1")
    assert "AWS is not enabled in the settings" in done.stdout
    assert api.sent("GET", "/offers") == []


def test_what_cannot_be_refreshed_is_said(terminal: Terminal) -> None:
    told = {
        ("offers", "--refresh"): "no cloud is enabled whose offers could be refreshed; name one: --provider aws",
        ("offers", "--refresh", "--provider", "azure"): "no provider 'azure' here; known: local, aws",
    }
    for words, line in told.items():
        done = terminal.run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"runner: {line}\n")
    terminal.extra["RUNNER_SERVER"] = "http://127.0.0.1:1"
    done = terminal.run("offers", "--refresh", "--provider", "aws")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run it where RUNNER_SERVER runs" in done.stderr
