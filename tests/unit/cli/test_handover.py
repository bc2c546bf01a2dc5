"""Credentials go to the controller of this machine, for a cloud that is named or enabled, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api_server import FakeApi, Script

from .terminal import Terminal, away

SECRET = "wJalrXUtnFEMI-of-this-terminal"
ON_AWS = ("run", "--provider", "aws", "--no-workdir", "--", "x")
TAKEN: dict[str, Any] = {
    "identity": {"account": "111", "name": "user/ann"},
    "expires_at": None,
    "first": False,
    "notes": [],
    "offer": "",
    "cap": {"max_usd_per_hour": "10", "max_instances": 8},
}
CLOUD: dict[str, Any] = {"enabled": False, "profile": "", "used": False}


@pytest.fixture
def ours(terminal: Terminal, api: FakeApi) -> FakeApi:
    """A terminal that is logged in, and a controller that knows of a cloud."""
    terminal.extra |= {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": str(terminal.folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(terminal.folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    api.clouds, api.taken = {"aws": dict(CLOUD)}, dict(TAKEN)
    return api


def handed(api: FakeApi) -> list[Any]:
    return api.sent("PUT", "/credentials/aws")


def test_a_command_that_names_the_cloud_hands_them_over_first(terminal: Terminal, ours: FakeApi) -> None:
    assert terminal.run(*ON_AWS).returncode == 0
    (body,) = handed(ours)
    assert body["keys"] == {"access_key_id": "AKIA", "secret_access_key": SECRET}
    assert (body["need"]["providers"], body["same"]) == (["aws"], False)
    asked = [(method, path.partition("/aws")[0]) for method, path, _ in ours.asked]
    assert asked.index(("PUT", "/credentials")) < asked.index(("POST", "/jobs"))
    assert SECRET not in str(ours.sent("POST", "/jobs"))


def test_a_job_file_that_names_it_does_so_too_and_so_does_its_repetition(terminal: Terminal, ours: FakeApi) -> None:
    (terminal.folder / "job.yaml").write_text("run: x\nresources: {provider: aws}\n")
    done = terminal.run("run", "-f", "job.yaml", "--no-workdir", "--detach")
    assert terminal.run("rerun", done.stdout.strip(), "--detach").returncode == 0
    assert len(handed(ours)) == 2


def test_who_names_no_cloud_hands_nothing_over(terminal: Terminal, ours: FakeApi) -> None:
    for words in (("run", "--no-workdir", "--", "x"), ("ps",), ("gc",), ("offers",), ("offers", "--provider", "local")):
        assert terminal.run(*words).returncode == 0
    assert handed(ours) == []


def test_a_served_controller_is_handed_nothing(terminal: Terminal, ours: FakeApi) -> None:
    ours.clouds = {}
    assert terminal.run(*ON_AWS).returncode == 0
    assert handed(ours) == []


def test_an_enabled_cloud_gets_them_from_every_job_and_is_left_out_without(terminal: Terminal, ours: FakeApi) -> None:
    ours.clouds["aws"]["enabled"] = True
    assert terminal.run("run", "--no-workdir", "--", "x").returncode == 0
    assert len(handed(ours)) == 1
    del terminal.extra["AWS_ACCESS_KEY_ID"]
    done = terminal.run("run", "--no-workdir", "--", "x")
    assert done.returncode == 0
    assert "runner: aws is left out: no AWS credentials: the SDK's own chain finds none here" in done.stderr
    assert len(handed(ours)) == 1


def test_the_profile_of_the_settings_is_the_one(terminal: Terminal, ours: FakeApi) -> None:
    ours.clouds["aws"]["profile"] = "training"
    (terminal.folder / "credentials").write_text(
        "[training]\naws_access_key_id = AKIAFILE\naws_secret_access_key = of-the-file\n"
    )
    assert terminal.run(*ON_AWS).returncode == 0
    assert handed(ours)[0]["keys"]["access_key_id"] == "AKIAFILE"


def test_a_cloud_that_is_named_without_any_is_refused(terminal: Terminal, ours: FakeApi) -> None:
    del terminal.extra["AWS_ACCESS_KEY_ID"]
    done = terminal.run(*ON_AWS)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("runner: no AWS credentials: the SDK's own chain finds none here; `aws configure` or")
    assert ours.jobs == {}


def test_what_the_controller_says_no_to_is_one_line_and_nothing_is_stored(terminal: Terminal, ours: FakeApi) -> None:
    error = {"kind": "Conflict", "message": "they are of another account", "hint": "use those"}
    ours.refuse["PUT", "/credentials/aws"] = (409, error)
    done = terminal.run(*ON_AWS)
    assert (done.returncode, done.stderr) == (3, "runner: they are of another account; use those\n")
    assert ours.jobs == {}


def test_the_first_use_shows_account_price_and_cap(terminal: Terminal, ours: FakeApi) -> None:
    ours.taken |= {"first": True, "offer": "aws use1-az1 g4dn.xlarge spot $0.2/h", "notes": ["and a note"]}
    said = terminal.run(*ON_AWS).stderr.splitlines()
    assert said[:2] == [
        "runner: first use of aws account 111, as user/ann; its best offer for this is "
        "aws use1-az1 g4dn.xlarge spot $0.2/h; at most $10/h and 8 machines at once",
        "runner: and a note",
    ]


def test_a_collection_hands_over_what_the_used_account_is_opened_with(terminal: Terminal, ours: FakeApi) -> None:
    ours.clouds["aws"]["used"] = True
    done = terminal.run("gc", "--dry-run")
    assert handed(ours)[0]["same"] is True
    assert "paused" not in done.stderr
    ours.health = {"ok": True, "paused": {"aws": "aws is paused: because"}}
    ours.refuse["PUT", "/credentials/aws"] = (409, {"kind": "Conflict", "message": "not yours", "hint": "use those"})
    done = terminal.run("gc", "--dry-run")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "runner: aws is left out: not yours; use those",
        "runner: aws is paused: because (its machines were not looked at)",
    ]


def test_a_list_of_jobs_says_that_a_cloud_is_paused(terminal: Terminal, ours: FakeApi) -> None:
    ours.health = {"ok": True, "paused": {"aws": "aws is paused: because"}}
    done = terminal.run("ps", "--json")
    assert (done.stdout, done.stderr) == ("[]\n", "runner: aws is paused: because\n")


def test_an_attached_command_hands_them_over_again_when_the_controller_lost_them(
    terminal: Terminal, ours: FakeApi
) -> None:
    ours.script = Script(wait_for_cancel=True)
    with terminal.begin(*ON_AWS) as running:
        ours.wait_for(lambda: ours.jobs)
        with away(ours):
            ours.health = {"ok": True, "paused": {"aws": "aws is paused: because"}}
        ours.wait_for(lambda: len(handed(ours)) == 2)
        (job_id,) = ours.jobs
        ours.end(job_id, "succeeded", 0)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 0, errors
    assert SECRET.encode() not in errors


def test_an_attached_command_that_has_none_any_more_says_why_it_waits(terminal: Terminal, ours: FakeApi) -> None:
    ours.script = Script(wait_for_cancel=True)
    with terminal.begin(*ON_AWS) as running:
        ours.wait_for(lambda: ours.jobs)
        ours.refuse["PUT", "/credentials/aws"] = (409, {"kind": "Conflict", "message": "expired", "hint": ""})
        ours.health = {"ok": True, "paused": {"aws": "aws is paused: because"}}
        ours.wait_for(lambda: len(handed(ours)) == 2)
        ours.wait_for(lambda: len(ours.sent("GET", "/healthz")) > 3)
        (job_id,) = ours.jobs
        ours.end(job_id, "succeeded", 0)
        _, errors = running.communicate(timeout=30)
    assert errors.count(b"runner: aws is paused: because\n") == 1
    assert len(handed(ours)) == 2
