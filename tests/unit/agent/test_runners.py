"""Attempts that are forges' runners, run by the real agent: fetched, registered at the last moment, never cut short."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import wire, workload
from agent.attempt import Attempt
from agent.config import Home
from agent.files import write_json
from agent.machine import Machine
from agent.tend import Tend
from tests.fakes.controller import Fault

from .forge import TOKEN, Forge, forge
from .machine import Box, box

KEY = ("j1", 1)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Box]:
    with box(tmp_path) as made:
        yield made


@pytest.fixture
def site() -> Iterator[Forge]:
    with forge() as made:
        yield made


def wanted(machine: Box, site: Forge, kind: str = "github", secret: str = "", **changes: Any) -> tuple[str, int]:
    """The attempt of a `ci-runner` job, ordered."""
    ordered = changes.pop("runner", None) or site.order(kind)
    machine.controller.runners[KEY] = wire.RunnerGiven(ordered.name, secret or site.jit(ordered.name))
    return machine.controller.order(wire.Order(*KEY, run=[], runner=ordered, **{"grace_s": 5.0, **changes}))


def program(script: str, path: str = "bin/Runner.Listener") -> bytes:
    """Another program for GitHub's place, or elsewhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(path)
        data = f"#!/bin/sh\n{script}\n".encode()
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def phases(machine: Box) -> list[str]:
    """What the controller was told of the runner, without repetition."""
    said = [one.runner.phase for sync in machine.controller.syncs for one in sync.attempts if one.runner]
    return [phase for index, phase in enumerate(said) if index == 0 or said[index - 1] != phase]


def state(machine: Box) -> wire.RunnerState:
    told = machine.controller.states[KEY].runner
    assert told is not None
    return told


def until_phase(machine: Box, phase: str) -> None:
    c = machine.controller
    c.until(lambda: (s := c.states.get(KEY)) and s.runner and s.runner.phase == phase)


def test_a_queued_job_is_run_and_told_of_from_its_beginning_to_its_end(machine: Box, site: Forge) -> None:
    c = machine.controller
    key = wanted(machine, site)
    machine.start()
    until_phase(machine, "waiting")
    site.until(lambda: site.sessions)
    site.queue('echo "$RUNNER_NAME $RUNNER_JOB_ID"; while [ ! -e ../../../go ]; do sleep 0.02; done')
    until_phase(machine, "busy")
    assert state(machine).job == {"repository": "acme/vision", "run": "3", "job": "train", "actor": "acme"}
    (machine.state / "work/j1-1/go").touch()
    ended = c.ended(key)
    assert (ended.exit_code, ended.why, ended.detail) == (0, "", "")
    assert (site.ended["conclusion"], state(machine).jobs) == ("success", 1)
    assert phases(machine) == ["waiting", "busy", "done"]
    assert b"completed with result: success" in bytes(c.log(key).data)
    assert ended.facts["runner_software"]["sha256"] == site.order().sha256
    assert ended.facts["timings"]["software_s"] >= 0
    c.until(lambda: c.drained)
    assert list((machine.state / "work").iterdir()) == []


def test_ci_jobs_find_none_of_our_variables(machine: Box, site: Forge) -> None:
    machine.more = {"AWS_SECRET_ACCESS_KEY": "of the agent"}
    wanted(machine, site, env={"MINE": "yes"})
    site.queue("env > ../../../env")
    machine.start()
    machine.controller.forgetting = False
    machine.controller.ended(KEY)
    seen = dict(
        line.split("=", 1) for line in (machine.state / "work/j1-1/env").read_text().splitlines() if "=" in line
    )
    assert {"RUNNER_JOB_ID", "RUNNER_ATTEMPT", "RUNNER_RESUMED", "AWS_SECRET_ACCESS_KEY"} & set(seen) == set()
    assert (seen["RUNNER_NAME"], seen["MINE"]) == ("runner-i1", "yes")
    assert seen["RUNNER_WORKSPACE"].endswith("/_work/vision")
    assert "ACTIONS_RUNNER_INPUT_JITCONFIG" not in seen


def test_the_secret_and_what_is_in_it_never_reach_the_log_or_our_part_of_the_disk(machine: Box, site: Forge) -> None:
    secret = site.jit("runner-i1")
    script = "echo $ACTIONS_RUNNER_INPUT_JITCONFIG; echo " + TOKEN + "; while [ ! -e go ]; do sleep 0.02; done"
    key = wanted(machine, site, runner=site.order(data=program(script)))
    machine.start()
    c = machine.controller
    c.until(lambda: c.log(key).data.count(b"\n") >= 2)
    for path in (machine.state / "attempts").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
            assert TOKEN.encode() not in path.read_bytes()
    (machine.state / "work/j1-1/go").touch()
    c.ended(key)
    assert bytes(c.log(key).data) == b"***\n***\n"


def test_the_runner_is_asked_for_last_and_again_when_the_agent_was_killed(machine: Box, site: Forge) -> None:
    c = machine.controller
    c.faults.append(Fault("/agent/v1/runner", delay_s=30))
    key = wanted(machine, site, runner=site.order(data=program("echo once")))
    child = machine.start()
    c.until(lambda: c.runners_given)
    assert (machine.state / "work/j1-1/bin/Runner.Listener").exists()
    child.kill()
    child.wait()
    c.states.clear()
    machine.start()
    assert c.ended(key).exit_code == 0
    assert (c.runners_given, bytes(c.log(key).data)) == ([key, key], b"once\n")


def test_a_runner_that_is_not_wanted_any_more_is_cancelled(machine: Box, site: Forge) -> None:
    key = wanted(machine, site)
    machine.controller.runners.clear()
    machine.start()
    assert machine.controller.ended(key).why == "cancelled"
    assert site.sessions == []


def test_a_controller_out_of_reach_is_asked_again_and_one_that_refuses_is_not(machine: Box, site: Forge) -> None:
    c = machine.controller
    c.faults += [Fault("/agent/v1/runner", times=2, status=503), Fault("/agent/v1/runner", status=422)]
    key = wanted(machine, site)
    machine.start()
    ended = c.ended(key)
    assert (ended.why, ended.detail) == ("forge", "it was given no runner to be: 422: as it was told to")
    assert c.requests.count("POST /agent/v1/runner") == 0  # the faults came before it


@pytest.mark.parametrize(
    ("code", "why", "detail"),
    [
        (0, "", ""),
        (1, "forge", "the forge's runner ended with an error: its log says which (exit code 1)"),
        (5, "forge", "another program has this runner's session at the forge (exit code 5)"),
        (
            7,
            "version-refused",
            "version refused: the forge does not take actions-runner 2.330.0 any more (exit code 7)",
        ),
        (9, "forge", "the forge's runner ended with exit code 9"),
    ],
)
def test_what_its_exit_code_means(machine: Box, site: Forge, code: int, why: str, detail: str) -> None:
    key = wanted(machine, site, runner=site.order(data=program(f"exit {code}")))
    machine.start()
    ended = machine.controller.ended(key)
    assert (ended.exit_code, ended.why, ended.detail) == (code, why, detail)


@pytest.mark.parametrize(("refused", "code"), [(401, 1), (409, 5), (426, 7)])
def test_the_stand_in_ends_with_the_codes_of_the_real_one(machine: Box, site: Forge, refused: int, code: int) -> None:
    site.refuses = refused
    key = wanted(machine, site)
    machine.start()
    assert machine.controller.ended(key).exit_code == code


def test_one_that_has_updated_itself_is_started_again_once_its_files_are_there(machine: Box, site: Forge) -> None:
    script = "[ -e once ] && { ls; exit 0; }; touch once; (sleep 0.1; touch update.finished) & exit 4"
    key = wanted(machine, site, runner=site.order(data=program(script)))
    machine.start()
    assert machine.controller.ended(key, timeout_s=20).exit_code == 0
    assert bytes(machine.controller.log(key).data) == b"bin\nonce\n"


@pytest.mark.parametrize("code", [2, 3, 6])
def test_one_that_asks_to_be_started_again_is_and_its_last_exit_code_counts(
    machine: Box, site: Forge, code: int
) -> None:
    """Its pause is cut short here by the file that tells that its own files are there."""
    script = f"echo begun; [ -e once ] && exit 0; touch once update.finished; exit {code}"
    key = wanted(machine, site, runner=site.order(data=program(script)))
    machine.start()
    ended = machine.controller.ended(key)
    assert (ended.exit_code, ended.why, len(machine.controller.runners_given)) == (0, "", 1)
    assert bytes(machine.controller.log(key).data) == b"begun\nbegun\n"


def test_kindly_is_not_to_cut_a_ci_job_short(machine: Box, site: Forge) -> None:
    c = machine.controller
    key = wanted(machine, site)
    site.queue("while [ ! -e ../../../go ]; do sleep 0.02; done")
    machine.start()
    until_phase(machine, "busy")
    c.cancel(key, "kindly")
    control = machine.state / "attempts/j1-1/control"
    c.until(control.exists)
    count = len(c.syncs)
    c.until(lambda: len(c.syncs) > count or state(machine).phase != "busy", timeout_s=30)
    assert state(machine).phase == "busy"
    (machine.state / "work/j1-1/go").touch()
    assert (c.ended(key).exit_code, c.ended(key).why, site.ended["conclusion"]) == (0, "", "success")


def test_an_agent_that_comes_back_knows_what_its_runner_does(machine: Box, site: Forge) -> None:
    c = machine.controller
    key = wanted(machine, site)
    site.queue("while [ ! -e ../../../go ]; do sleep 0.02; done")
    child = machine.start()
    until_phase(machine, "busy")
    child.kill()
    child.wait()
    c.states.pop(key)
    machine.start()
    until_phase(machine, "busy")
    (machine.state / "work/j1-1/go").touch()
    assert (c.ended(key).exit_code, state(machine).phase, len(c.runners_given)) == (0, "done", 1)


def test_kindly_ends_one_that_waits(machine: Box, site: Forge) -> None:
    c = machine.controller
    key = wanted(machine, site, grace_s=60.0)
    machine.start()
    site.until(lambda: any("/sessions/s-7/job" in path for _, path in site.asked))
    until_phase(machine, "waiting")
    c.cancel(key, "kindly")
    assert c.ended(key).why == "cancelled"
    assert site.sessions == []
    assert state(machine).jobs == 0


def test_a_child_of_the_program_is_work_that_no_hook_told_of_yet(machine: Box, site: Forge) -> None:
    c = machine.controller
    script = "sh -c 'touch began; while [ ! -e go ]; do sleep 0.05; done'; echo finished"
    key = wanted(machine, site, runner=site.order(data=program(script)))
    machine.start()
    c.until((machine.state / "work/j1-1/began").exists)
    c.until(lambda: c.states[key].phase == "running")
    c.cancel(key, "kindly")
    control = machine.state / "attempts/j1-1/control"
    c.until(control.exists)
    until_looked = len(c.syncs) + 1
    c.until(lambda: len(c.syncs) >= until_looked)
    assert c.states[key].phase == "running"
    (machine.state / "work/j1-1/go").touch()
    assert c.ended(key).why == "cancelled"
    assert bytes(c.log(key).data) == b"finished\n"


def test_now_ends_it_whatever_it_does(machine: Box, site: Forge) -> None:
    key = wanted(machine, site)
    site.queue("sleep 600")
    machine.start()
    until_phase(machine, "busy")
    machine.controller.cancel(key, "now")
    assert machine.controller.ended(key).why == "cancelled"
    assert (state(machine).phase, state(machine).jobs) == ("busy", 1)
    assert machine.pids() == [] or all(
        "sleep" not in Path(f"/proc/{pid}/cmdline").read_text() for pid in machine.pids()
    )


def test_a_time_out_lets_it_tell_the_forge(machine: Box, site: Forge) -> None:
    key = wanted(machine, site, timeout_s=2.0)
    site.queue("sleep 600")
    machine.start()
    ended = machine.controller.ended(key)
    assert (ended.why, site.ended["conclusion"]) == ("timeout", "cancelled")
    assert (state(machine).phase, state(machine).jobs) == ("busy", 1)


def test_one_that_finishes_its_job_by_kindness_has_no_more_time_for_it(machine: Box, site: Forge) -> None:
    key = wanted(machine, site, timeout_s=2.0)
    site.queue("sleep 600")
    machine.start()
    until_phase(machine, "busy")
    machine.controller.cancel(key, "kindly")
    assert (machine.controller.ended(key).why, site.ended["conclusion"]) == ("timeout", "cancelled")


def test_an_orphaned_runner_is_stopped_in_its_job_and_tells_the_forge(tmp_path: Path, site: Forge) -> None:
    with box(tmp_path, orphan_s=2.0, hold_unsent_s=10.0, poll_s=0.2) as machine:
        wanted(machine, site)
        site.queue("sleep 600")
        machine.start()
        until_phase(machine, "busy")
        machine.controller.down = True
        site.until(lambda: site.ended)
        assert site.ended["conclusion"] == "cancelled"


def test_kindly_on_a_machine_that_is_about_to_go_is_not_to_wait_for_the_job(tmp_path: Path) -> None:
    """The forge is told that it is over, and can run it elsewhere, rather than left to find out."""
    home = Home(str(tmp_path))
    home.make()
    config = wire.AgentConfig(instance="i1", name="i1", urls=["http://127.0.0.1:9"], join_token="t", on_end="exit")
    machine = Machine(home, config, [])
    attempt = Attempt(home, wire.Order(*KEY, run=[]))
    attempt.create()
    me = workload.process(os.getpid())
    assert me is not None
    write_json(
        f"{attempt.folder}/supervisor.json", {"pid": me.pid, "started": me.started, "boot_id": workload.boot_id()}
    )
    machine.add(attempt)
    attempt.cancel = "kindly"
    tend, said = Tend(machine), []
    for notice in ("", "spot interruption", ""):
        machine.notice = notice
        tend.once()
        said.append(Path(f"{attempt.folder}/control").read_text())
    assert said == ["kindly", "firmly", "firmly"]


def test_a_job_of_gitlab(machine: Box, site: Forge) -> None:
    key = wanted(machine, site, "gitlab", TOKEN)
    site.queue('test -z "$CI_SERVER_TOKEN"', "while [ ! -e ../../../go ]; do sleep 0.02; done")
    machine.start()
    until_phase(machine, "busy")
    machine.controller.cancel(key, "kindly")
    (machine.state / "work/j1-1/go").touch()
    ended = machine.controller.ended(key)
    assert (ended.exit_code, ended.why, site.ended["state"]) == (0, "", "success")
    assert (phases(machine)[-1], state(machine).job["repository"]) == ("done", "acme/vision")


def test_gitlabs_is_asked_to_finish_even_while_it_waits(machine: Box, site: Forge) -> None:
    key = wanted(machine, site, "gitlab", TOKEN)
    machine.start()
    site.until(lambda: site.sessions)
    until_phase(machine, "waiting")
    machine.controller.cancel(key, "kindly")
    ended = machine.controller.ended(key)
    assert (ended.why, state(machine).jobs) == ("cancelled", 0)


@pytest.mark.parametrize("software", ["act_runner", "forgejo-runner"])
def test_a_job_of_gitea_or_forgejo(machine: Box, site: Forge, software: str) -> None:
    """The program is the runner that the controller made: it finds its registration in the workspace."""
    ordered = site.order("gitea", software=software)
    key = wanted(machine, site, secret=site.registration("runner-i1"), runner=ordered)
    site.queue("ls -l ../../../.runner > ../../../seen", "while [ ! -e ../../../go ]; do sleep 0.02; done")
    machine.start()
    until_phase(machine, "busy")
    seen = machine.state / "work/j1-1/seen"
    machine.controller.until(lambda: seen.exists() and seen.read_text())
    assert seen.read_text().startswith("-rw------- ")
    (machine.state / "work/j1-1/go").touch()
    ended = machine.controller.ended(key)
    assert (ended.exit_code, ended.why, site.ended["result"]) == (0, "", "RESULT_SUCCESS")
    assert (site.sessions, state(machine).jobs) == (["gpu-t4:host"], 1)
    assert state(machine).job.get("repository", "") == ("acme/vision" if software == "act_runner" else "")
    for path in (machine.state / "attempts").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_a_registration_that_is_refused_says_so(machine: Box, site: Forge) -> None:
    site.refuses = 401
    key = wanted(machine, site, "gitea", site.registration("runner-i1"))
    machine.start()
    ended = machine.controller.ended(key)
    assert (ended.why, ended.exit_code) == ("forge", 1)


def test_what_a_job_writes_to_the_hooks_file_is_believed_no_further(machine: Box, site: Forge) -> None:
    key = wanted(machine, site)
    hooks = machine.state / "work/j1-1.hooks/events"
    flood = (
        f"head -c 3000000 /dev/zero | tr '\\0' x >> {hooks}; printf 'started\\tjob=%s\\tx=1\\n' $(seq 900) >> {hooks}"
    )
    site.queue(flood, f"rm -f {hooks}; ln -s /etc/shadow {hooks}")
    machine.start()
    ended = machine.controller.ended(key)
    assert (ended.exit_code, state(machine).jobs) == (0, 1)
    assert json.dumps(state(machine).job).count("x") < 10
