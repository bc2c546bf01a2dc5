"""`runner launch`: what is asked for, what is left for the jobs after it, and that a failure leaves nothing."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from provisioner.cli.failures import REFUSED, CliError, Unreachable
from provisioner.cli.insist import all_of
from provisioner.domain.policy import Policy
from tests.fakes.api_server import FakeApi, Script

from .conftest import server
from .step import GITHUB, GITLAB, TOKEN, github
from .terminal import Terminal

REPO = ("launch", "--repo", "https://github.com/acme/vision")


def outputs(terminal: Terminal) -> dict[str, str]:
    """As the forge reads them: name<<MARK, lines, MARK."""
    lines = (terminal.folder / "github_output").read_text().splitlines()
    found: dict[str, str] = {}
    while lines:
        name, _, mark = lines.pop(0).partition("<<")
        end = lines.index(mark)
        found[name], lines = "\n".join(lines[:end]), lines[end + 1 :]
    return found


def specs(api: FakeApi) -> list[dict[str, Any]]:
    return [body["spec"] for body in api.sent("POST", "/jobs") if "spec" in body]


def test_a_runner_is_a_job_of_its_own_kind(here: Terminal, api: FakeApi) -> None:
    done = here.run(*REPO, "--gpu", "T4", "--labels", "gpu, big", "--jobs", "many", "--max-lifetime", "2h", "--spot")
    assert done.returncode == 0, done.stderr
    (spec,) = specs(api)
    label = spec["runner"]["labels"][0]
    assert spec["runner"] == {
        "url": "https://github.com/acme/vision",
        "forge": "github",
        "labels": [label, "gpu", "big"],
        "jobs": "many",
        "group": "",
        "idle_s": 600.0,
        "online_within_s": 870.0,
        "awaited": True,
    }
    assert (spec["kind"], spec["run"], spec["max_lifetime_s"]) == ("ci-runner", [], 7200.0)
    assert (spec["need"]["gpu"]["name"], spec["need"]["market"]) == ("T4", "spot")
    assert done.stdout == f"{label},gpu,big\n"


def test_a_launch_that_nobody_takes_back_is_over_before_a_machine_that_does_not_boot_would_be(
    here: Terminal, api: FakeApi
) -> None:
    assert here.run(*REPO).returncode == 0
    assert specs(api)[0]["runner"]["online_within_s"] < Policy().boot_timeout_s


def test_it_waits_until_the_forge_says_online_and_tells_how_far_it_is(here: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    with here.begin(*REPO) as running:
        api.wait_for(lambda: len(api.sent("GET", "/events")) > 2)
        api.wait_for(lambda: len(api.sent("POST", f"/jobs/{next(iter(api.jobs))}/awaited")) > 2)
        assert running.poll() is None
        (job_id,) = api.jobs
        api.event(job_id, "runner.online", "it waits for a job")
        _, said = running.communicate(timeout=30)
    assert running.returncode == 0
    assert said.decode().splitlines() == [
        f"runner: {job_id} machine planned: local here this on-demand $0/h",
        f"runner: {job_id} the machine is ready",
        f"runner: {job_id} registered: runner-of-{job_id}",
        f"runner: {job_id} runner-of-{job_id} is online at https://github.com/acme/vision",
    ]


def test_several_share_one_label_that_no_other_launch_has(here: Terminal, api: FakeApi) -> None:
    assert here.run(*REPO, "--count", "3", "--json").returncode == 0
    assert here.run(*REPO).returncode == 0
    labels = [tuple(spec["runner"]["labels"]) for spec in specs(api)]
    assert len(labels) == 4
    assert len(set(labels)) == 2
    assert len(set(api.jobs)) == 4


def test_a_step_knows_its_repository_and_leaves_outputs(step: Terminal, api: FakeApi) -> None:
    done = step.run("launch", "--count", "2", "--labels", "gpu")
    assert done.returncode == 0, done.stderr
    assert specs(api)[0]["runner"]["url"] == "https://github.com/acme/vision"
    left = outputs(step)
    assert left["label"].startswith("run-1658821493-2-")
    assert json.loads(left["labels"]) == [left["label"], "gpu"]
    assert json.loads(left["jobs"]) == list(api.jobs)


def test_a_step_that_is_tried_again_finds_its_runners(step: Terminal, api: FakeApi) -> None:
    first = step.run("launch", "--gpu", "T4", "--count", "2")
    again = step.run("launch", "--gpu", "T4", "--count", "2")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert len(api.jobs) == 2


def test_another_wish_of_the_same_job_is_another_launch(step: Terminal, api: FakeApi) -> None:
    said = {step.run("launch", *words).stdout for words in ((), ("--gpu", "A100"), ("--name", "second"))}
    assert (len(said), len(api.jobs)) == (3, 3)


def test_one_name_is_one_wish(step: Terminal, api: FakeApi) -> None:
    assert step.run("launch", "--name", "a", "--gpu", "T4").returncode == 0
    done = step.run("launch", "--name", "a", "--gpu", "A100")
    (job_id,) = api.jobs
    assert done.returncode == 2
    assert f"{job_id} was launched under this name and is something else; give another --name" in done.stderr
    assert api.jobs[job_id]["phase"] == "running"


def test_a_pools_machine_is_asked_for_by_its_name_alone(step: Terminal, api: FakeApi) -> None:
    assert step.run("launch", "--name", "a", "--pool", "gpu").returncode == 0
    (spec,) = specs(api)
    assert (spec["runner"]["pool"], spec["need"]) == ("gpu", {})
    assert step.run("launch", "--name", "a", "--pool", "gpu").returncode == 0
    assert "is something else" in step.run("launch", "--name", "a").stderr
    assert len(api.jobs) == 1


def test_what_has_ended_is_launched_anew(step: Terminal, api: FakeApi) -> None:
    assert step.run("launch").returncode == 0
    (first,) = api.jobs
    api.end(first, "succeeded", 0)
    assert step.run("launch").returncode == 0
    assert list(api.jobs) == [first, f"{first}-2"]


def test_gitlab_gets_variables_in_a_file(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra |= GITLAB | {"GITLAB_TOKEN": TOKEN, **server(terminal)}
    done = terminal.run("launch", "--labels", "gpu")
    assert done.returncode == 0, done.stderr
    left = dict(line.split("=", 1) for line in (terminal.folder / "runner.env").read_text().splitlines())
    assert left["RUNNER_LABEL"].startswith("run-7001-")
    assert left == {
        "RUNNER_LABEL": left["RUNNER_LABEL"],
        "RUNNER_LABELS": f"{left['RUNNER_LABEL']},gpu",
        "RUNNER_JOBS": ",".join(api.jobs),
    }
    assert specs(api)[0]["runner"]["url"] == "https://gitlab.example/acme/vision"
    assert specs(api)[0]["runner"]["forge"] == "gitlab"


def test_one_that_cannot_come_fails_with_its_reason_and_takes_the_others_back(here: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False, why="impossible", outcome="impossible", detail="no such GPU")
    done = here.run(*REPO, "--count", "2")
    assert done.returncode == 125
    first, second = api.jobs
    assert f"runner: {first} impossible: impossible: no such GPU; `runner why {first}` says more" in done.stderr
    assert [path for m, path, _ in api.asked if path.endswith("cancel")] == [
        f"/jobs/{first}/cancel",
        f"/jobs/{second}/cancel",
    ]


def test_who_waits_too_long_gives_up_and_leaves_nothing(here: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    done = here.run(*REPO, "--wait", "300ms")
    assert done.returncode == 125
    assert "runner: not online after 0.3 s: it waits for an offer; --wait says how long to wait" in done.stderr
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_back_what_was_launched(here: Terminal, api: FakeApi, number: signal.Signals) -> None:
    api.script = Script(online=False)
    with here.begin(*REPO, "--count", "2") as running:
        api.wait_for(lambda: len(api.jobs) == 2 and api.sent("GET", "/events"))
        running.send_signal(number)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled", "cancelled"]
    assert f"runner: cancelled {', '.join(api.jobs)}" in said.decode()


def test_a_signal_while_a_job_is_being_stored_takes_it_back_too(here: Terminal, api: FakeApi) -> None:
    api.script, api.slow_submit_s = Script(online=False), 0.5
    with here.begin(*REPO) as running:
        api.wait_for(lambda: api.sent("POST", "/jobs"))
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert running.returncode == 130
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled"]


def test_the_same_words_with_cancel_take_back_what_a_killed_step_left(step: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    with step.begin("launch", "--gpu", "T4", "--count", "2") as running:
        api.wait_for(lambda: len(api.jobs) == 2)
        running.kill()
    done = step.run("launch", "--gpu", "T4", "--count", "2", "--cancel")
    assert done.returncode == 0, done.stderr
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled", "cancelled"]
    assert step.run("launch", "--gpu", "T4", "--count", "2", "--cancel").stderr == "runner: nothing to cancel\n"


def test_a_step_that_could_be_any_leg_of_a_matrix_launches_nothing_without_a_name(step: Terminal, api: FakeApi) -> None:
    step.extra["RUNNER_TRACKING_ID"] = ""
    done = step.run("launch", "--detach")
    assert (done.returncode, api.jobs) == (2, {})
    assert done.stderr.startswith("runner: nothing tells this job from other legs of a matrix")
    assert done.stderr.count("\n") == 1
    for name in ("t4", "a10g"):
        assert step.run("launch", "--detach", "--name", name).returncode == 0
    assert len(api.jobs) == 2


def test_another_job_of_the_run_takes_back_all_that_it_launched(step: Terminal, api: FakeApi) -> None:
    """Its launches have other names than any of another job's, so that `--cancel` would not find them."""
    assert step.run("launch", "--count", "2", "--detach").returncode == 0
    launched = list(api.jobs)
    api.submit("j-anns", {"run": "x"})
    api.submit("ci-other", {"runner": {"url": "https://github.com/acme/vision", "labels": ["run-1-1-01234567"]}})
    step.extra |= {"GITHUB_JOB": "stop", "RUNNER_TRACKING_ID": "github_another"}
    assert step.run("launch", "--count", "2", "--cancel").stderr == "runner: nothing to cancel\n"
    done = step.run("cancel", "--of-run")
    assert (done.returncode, done.stdout) == (0, "".join(f"{one} cancelled\n" for one in launched))
    assert [job["outcome"] for job in api.jobs.values() if job["id"] not in launched] == ["succeeded", None]
    assert step.run("cancel", "--of-run", "--json").stdout == "[]\n"
    del step.extra["RUNNER_SERVER"]
    done = step.run("cancel", "--of-run")
    assert (done.returncode, done.stderr.startswith("runner: nothing to cancel: without RUNNER_SERVER")) == (0, True)


def test_one_that_may_not_be_cancelled_keeps_none_of_the_others(step: Terminal, api: FakeApi) -> None:
    assert step.run("launch", "--count", "3", "--detach").returncode == 0
    first, second, third = api.jobs
    error = {"kind": "Forbidden", "message": f"{first} belongs to ann", "hint": "ask them, or an admin"}
    api.refuse["POST", f"/jobs/{first}/cancel"] = (403, error)
    done = step.run("cancel", "--of-run", "--json")
    assert [job["outcome"] for job in api.jobs.values()] == [None, "cancelled", "cancelled"]
    assert [one["id"] for one in json.loads(done.stdout)] == [second, third]
    said = f"runner: could not cancel {first}: {first} belongs to ann; ask them, or an admin\n"
    assert (done.returncode, done.stderr) == (3, said)
    assert len(api.sent("POST", f"/jobs/{first}/cancel")) == 1


@pytest.mark.parametrize("lost", [("GET", "/jobs"), ("POST", "/jobs/[^/]+-1/cancel")])
def test_what_a_gateway_does_not_answer_is_cancelled_when_it_does(
    step: Terminal, api: FakeApi, lost: tuple[str, str]
) -> None:
    assert step.run("launch", "--count", "2", "--detach").returncode == 0
    launched = list(api.jobs)
    api.asked.clear()
    api.refuse[lost] = (502, {})
    with step.begin("cancel", "--of-run") as running:
        api.wait_for(lambda: sum(m == lost[0] and bool(re.fullmatch(lost[1], path)) for m, path, _ in api.asked) > 1)
        api.refuse = {}
        out, said = running.communicate(timeout=30)
    assert (running.returncode, out.decode(), said) == (0, "".join(f"{one} cancelled\n" for one in launched), b"")


def test_why_some_were_not_cancelled_is_said_once_with_the_worst_code() -> None:
    nobody, theirs = Unreachable("nobody answers"), CliError("ci-2 is ann's", "ask her", REFUSED)
    error = all_of({"ci-1": nobody, "ci-2": theirs, "ci-3": nobody}, "cancel")
    said = "could not cancel ci-1, ci-3: nobody answers; could not cancel ci-2: ci-2 is ann's; ask her"
    assert (error.line, error.code) == (said, 4)


def test_without_waiting_the_labels_are_known_at_once(step: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    done = step.run("launch", "--detach")
    assert done.returncode == 0
    assert outputs(step)["label"] == done.stdout.strip()
    assert not specs(api)[0]["runner"].keys() & {"online_within_s", "awaited"}


def test_how_long_it_waits_makes_no_other_launch_of_it(step: Terminal, api: FakeApi) -> None:
    """It is what the controller gives a runner that was asked for by somebody who is gone."""
    api.script = Script(online=False)
    with step.begin("launch", "--wait", "5m") as running:
        api.wait_for(lambda: api.jobs)
        running.kill()
    (job_id,) = api.jobs
    api.event(job_id, "runner.online", "")
    assert step.run("launch").returncode == 0
    assert (len(api.jobs), specs(api)[0]["runner"]["online_within_s"]) == (1, 330.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("launch",), "where should they serve? give --repo URL; a CI step's own repository is known"),
        (("launch", "--repo", "https://git.example/a/b"), "what kind of forge is git.example?"),
        (("launch", "--repo", "https://git.example/a/b", "--forge", "svn"), "'svn' is not a kind of forge"),
        ((*REPO, "--wait", "soon"), "--wait: 'soon' is not a duration"),
        ((*REPO, "--idle-timeout", "never"), "--idle-timeout: 'never' is not a duration"),
        ((*REPO, "--gpu", "T5"), "T5"),
        ((*REPO, "--labels", "a b"), "labels: 'a b' has a blank in a label"),
        ((*REPO, "--cancel"), "only a CI step knows again what it launched"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_stored(
    here: Terminal, api: FakeApi, words: tuple[str, ...], said: str
) -> None:
    done = here.run(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert api.jobs == {}


def test_a_forge_below_its_hosts_root_is_known_from_the_settings_and_from_the_step(
    here: Terminal, api: FakeApi
) -> None:
    below = {"url": "https://host/gitlab/acme/vision", "forge": "gitlab", "base": "https://host/gitlab"}
    api.forges = {"https://host/gitlab": {"kind": "gitlab", "opened": False}}
    assert here.run("launch", "--repo", below["url"]).returncode == 0
    api.forges = {}
    here.extra |= GITLAB | server(here) | {"CI_SERVER_URL": "https://host/gitlab", "CI_SERVER_HOST": "host"}
    for words in ((), ("--repo", below["url"])):
        assert here.run("launch", *words).returncode == 0
    assert [{name: spec["runner"][name] for name in below} for spec in specs(api)] == [below] * 3
    handed = [{"url": one["url"], "base": one["base"]} for one in api.sent("PUT", "/forges/gitlab")]
    assert handed == [{"url": below["url"], "base": below["base"]}]  # a served controller is given none


# The right to make runners


def test_what_github_sets_is_no_setting_of_ours(terminal: Terminal, api: FakeApi) -> None:
    """Under the full set: the same home, the embedded controller, no token, no labels of theirs."""
    plain = terminal.run("ps", "--json")
    terminal.extra |= github(terminal.folder)
    done = terminal.run("ps", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    terminal.extra |= {"RUNNER_FORGE_TOKEN": TOKEN, **server(terminal)}
    assert terminal.run("launch").returncode == 0
    (spec,) = specs(api)
    assert len(spec["runner"]["labels"]) == 1
    assert spec["runner"]["url"] == "https://github.com/acme/vision"
    assert spec["runner"]["idle_s"] == 600.0
    assert not any(value in json.dumps(spec) for name, value in GITHUB.items() if name == "RUNNER_NAME")
