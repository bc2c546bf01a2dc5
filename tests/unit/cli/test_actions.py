"""The actions of .github/actions, started as GitHub does: Node, inputs and state in variables, outputs in files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from provisioner.app.clock import SystemClock
from provisioner.cli.commands.launch import command as launch
from tests.fakes.api_server import FakeApi, Script
from tests.fakes.github.server import FakeGitHub

from .step import github
from .terminal import TOP, Terminal

ACTIONS = TOP / ".github/actions"
needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="GitHub's runner brings Node, this machine has none"
)


@pytest.fixture
def step(terminal: Terminal, api: FakeApi) -> Terminal:
    """A step of a workflow on a machine that has `runner`."""
    folder = terminal.folder / "bin"
    folder.mkdir()
    program = folder / "runner"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m provisioner "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    terminal.extra |= github(terminal.folder) | {"RUNNER_FORGE_TOKEN": "ghp_not-to-be-seen"}
    terminal.extra |= {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_STATE": str(terminal.folder / "state")}
    terminal.extra["RUNNER_SERVER"] = f"unix:{terminal.api_path}"
    return terminal


def begin(step: Terminal, script: str, **inputs: str) -> subprocess.Popen[bytes]:
    named = {f"INPUT_{name.upper().replace('_', '-')}": value for name, value in inputs.items()}
    return subprocess.Popen(
        ["node", str(ACTIONS / script)],
        env=step.environment | named,
        cwd=step.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(step: Terminal, script: str, **inputs: str) -> tuple[int, str]:
    with begin(step, script, **inputs) as running:
        out, errors = running.communicate(timeout=60)
    return running.returncode, (out + errors).decode()


def keep_state(step: Terminal) -> None:
    """What main.js saved comes to post.js as STATE_name."""
    lines = (step.folder / "state").read_text().splitlines()
    while lines:
        name, _, mark = lines.pop(0).partition("<<")
        end = lines.index(mark)
        step.extra[f"STATE_{name}"], lines = "\n".join(lines[:end]), lines[end + 1 :]


@needs_node
def test_it_launches_what_its_inputs_say_and_leaves_what_came(step: Terminal, api: FakeApi) -> None:
    code, said = run(step, "launch/main.js", gpu="T4", count="2", max_lifetime="2h", args="--spot --name 'a b'")
    assert code == 0, said
    spec = api.sent("POST", "/jobs")[0]["spec"]
    assert (spec["name"], spec["max_lifetime_s"], spec["need"]["market"]) == ("a b", 7200.0, "spot")
    assert "label<<" in (step.folder / "github_output").read_text()
    keep_state(step)
    assert run(step, "launch/post.js") == (0, "")
    assert [job["phase"] for job in api.jobs.values()] == ["running", "running"]


@needs_node
def test_a_step_that_is_cancelled_takes_back_what_it_launched(step: Terminal, api: FakeApi) -> None:
    """GitHub signals the entry process alone."""
    api.script = Script(online=False)
    with begin(step, "launch/main.js", gpu="T4") as running:
        api.wait_for(lambda: api.sent("GET", "/events"))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)
    assert running.returncode == 130
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled"]


@needs_node
def test_the_post_step_takes_back_what_a_killed_tree_left(step: Terminal, api: FakeApi) -> None:
    api.script = Script(online=False)
    with begin(step, "launch/main.js", gpu="T4", count="2") as running:
        api.wait_for(lambda: len(api.jobs) == 2)
        _kill_tree(running.pid)
        running.communicate(timeout=10)
    assert [job["phase"] for job in api.jobs.values()] == ["running", "running"]
    keep_state(step)
    code, said = run(step, "launch/post.js")
    assert code == 0, said
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled", "cancelled"]


def _kill_tree(pid: int) -> None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in [pid, *map(int, children)]:
        os.kill(one, signal.SIGKILL)


@needs_node
def test_the_stop_action_cancels_each(step: Terminal, api: FakeApi) -> None:
    assert run(step, "launch/main.js", count="2")[0] == 0
    assert run(step, "stop/main.js", jobs=json.dumps(list(api.jobs)))[0] == 0
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled", "cancelled"]


@needs_node
def test_the_stop_action_cancels_all_of_its_run_where_a_launch_was_cut_off(step: Terminal, api: FakeApi) -> None:
    """Which has left no ids, so that the expression in the workflow is empty."""
    assert run(step, "launch/main.js", count="2")[0] == 0
    step.extra |= {"GITHUB_JOB": "stop", "RUNNER_TRACKING_ID": "github_another"}
    code, said = run(step, "stop/main.js", jobs="")
    assert code == 0, said
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled", "cancelled"]


@needs_node
def test_the_report_action_posts_what_its_words_say_under_its_title(step: Terminal) -> None:
    """At the forge of its run, once; the second updates it."""
    forge = FakeGitHub(SystemClock())
    forge.start()
    try:
        site = forge.add_repository("acme/vision")
        forge.accounts.tokens["ghs_of-the-workflow"] = "acme"
        step.extra |= {"GITHUB_SERVER_URL": forge.url, "GITHUB_API_URL": f"{forge.url}/api/v3"}
        step.extra |= {"RUNNER_FORGE_TOKEN": "ghs_of-the-workflow"}
        (step.folder / "val metrics.json").write_text('{"accuracy": 0.92}')
        inputs = {"args": "--metrics 'val metrics.json'", "title": "Nightly run", "target": "pr/7"}
        code, said = run(step, "report/main.js", **inputs)
        assert code == 0, said
        assert run(step, "report/main.js", **inputs)[0] == 0
        (comment,) = forge.reviews.of(f"{site.path}/issues/7")
    finally:
        forge.stop()
    assert "Nightly run" in comment.body
    assert "| `accuracy` | 0.92 |" in comment.body


@needs_node
def test_the_report_action_ends_as_the_command_does(step: Terminal) -> None:
    code, said = run(step, "report/main.js", args="--metrics absent.json", target="pr/7")
    assert code == 2
    assert "absent.json" in said


def test_every_input_is_an_option_and_every_output_is_left() -> None:
    action = yaml.safe_load((ACTIONS / "launch/action.yml").read_text())
    options = {name.removeprefix("--") for param in launch.params for name in param.opts}
    assert set(action["inputs"]) - {"args", "extras"} <= options
    names = json.loads(
        (ACTIONS / "launch/main.js").read_text().split("const NAMES = ")[1].split(";")[0].replace("'", '"')
    )
    assert set(names) == set(action["inputs"]) - {"args", "extras"}
    assert set(action["outputs"]) == {"label", "labels", "jobs"}


def test_each_action_names_files_that_are_there() -> None:
    for folder in ("launch", "stop", "report"):
        runs = yaml.safe_load((ACTIONS / folder / "action.yml").read_text())["runs"]
        assert runs["using"] == "node20"
        assert all((ACTIONS / folder / runs[key]).is_file() for key in ("main", "post") if key in runs)
