"""What each command asks of the controller, and what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import pty

import pytest

from tests.fakes.api_server import FakeApi, Script

from .terminal import Terminal

LISTS = [("ps", "-a"), ("machines",), ("events",), ("secret", "ls"), ("offers",)]


@pytest.fixture
def job(api: FakeApi) -> str:
    api.script = Script(output=[(1, b"out\n"), (2, b"err\n")], files={"metrics.json": b"{}"}, refused=["a link"])
    return str(api.submit("j-1", {"run": ["python", "train.py"], "workspace": None})["id"])


def test_ps_shows_what_runs_and_with_a_what_is_done(terminal: Terminal, api: FakeApi, job: str) -> None:
    assert terminal.run("ps").stdout.split() == ["JOB", "NAME", "STATE", "CREATED", "COST", "WHY"]
    row = terminal.run("ps", "-a").stdout.splitlines()[1]
    assert row.split()[:2] == ["j-1", "succeeded"]
    assert row.endswith("$0.25")


@pytest.mark.parametrize("words", LISTS)
def test_every_list_is_a_json_array_of_objects_with_id(
    terminal: Terminal, api: FakeApi, job: str, words: tuple[str, ...]
) -> None:
    api.secrets["HF_TOKEN"] = "x" * 8
    found = json.loads(terminal.run(*words, "--json").stdout)
    assert len(found) >= 1
    assert all("id" in one for one in found)


def test_events_are_all_of_them_however_many(terminal: Terminal, api: FakeApi, job: str) -> None:
    for _ in range(2500 - len(api.events)):
        api.event(job, "job.waits", "")
    assert [one["id"] for one in json.loads(terminal.run("events", "--json").stdout)] == list(range(1, 2501))
    assert len(json.loads(terminal.run("events", "--json", "--limit", "7").stdout)) == 7


def test_collecting_at_a_server_that_is_away_does_not_turn_to_this_machine(terminal: Terminal) -> None:
    terminal.extra["RUNNER_SERVER"] = "http://127.0.0.1:1"
    assert terminal.run("gc", "--expired").returncode == 4


def test_show_draws_each_gpu(terminal: Terminal, api: FakeApi, job: str) -> None:
    one = {"name": "T4", "used_mib": 100.0, "utilization": 7.0, "celsius": 40.0}
    api.readings = [
        ["2026-11-21T00:00:00+00:00", {"cpu": 0.1, "gpus": [one, {**one, "utilization": load, "celsius": "[N/A]"}]}]
        for load in (0.0, 50.0, 100.0)
    ]
    lines = terminal.run("show", job).stdout.splitlines()
    assert "  gpu1       ▁▄█ max 100 %".replace("▁", " ") in lines
    assert "  gpu0 temp  ███ max 40 C" in lines
    assert not any("gpu1 temp" in line for line in lines)
    assert "  gpu1 mem   ███ max 100 MiB" in lines


def test_states_are_coloured_on_a_terminal_only(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.end(job, "failed", 1)
    assert "\x1b" not in terminal.run("ps", "-a").stdout
    seen = on_a_terminal(terminal, "ps", "-a")
    assert "\x1b[31mfailed\x1b[0m" in seen
    terminal.extra["NO_COLOR"] = "1"
    assert "\x1b" not in on_a_terminal(terminal, "ps", "-a")


def test_a_pull_shows_how_far_it_is_on_a_terminal_only(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.script.files = {"weights": bytes(30 * 2**20)}
    api.slow_file_s = 0.5
    assert "\rrunner: fetching" in on_a_terminal(terminal, "pull", job, "seen")
    assert "fetching" not in terminal.run("pull", job, "unseen").stderr


def test_shells_complete_ids(terminal: Terminal, api: FakeApi, job: str) -> None:
    terminal.extra |= {"_RUNNER_COMPLETE": "bash_complete", "COMP_WORDS": "runner show j-", "COMP_CWORD": "2"}
    assert terminal.run().stdout == f"plain,{job}\n"
    api.stop()
    assert terminal.run().stdout.split() == []


def on_a_terminal(terminal: Terminal, *words: str) -> str:
    """What a person would see, standard output and error on one terminal."""
    ours, theirs = pty.openpty()
    with terminal.begin(*words, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed when the process is over
            while data := os.read(ours, 2**16):
                seen += data
        running.wait(30)
    os.close(ours)
    return seen.decode()


def test_show_draws_the_readings_and_names_the_outputs(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.readings = [["2026-11-21T00:00:00+00:00", {"cpu": load, "memory_bytes": 2**30}] for load in (0.0, 0.5, 1.0)]
    shown = terminal.run("show", job).stdout
    assert "run       python train.py" in shown
    assert "setup 1.5 s" in shown
    assert "▄█ max 100 %" in shown
    assert "max 1024 MiB" in shown
    assert "output    metrics.json  2 B" in shown
    assert "not taken a link" in shown
    assert "cost      $0.25, estimated" in shown


def test_show_says_what_an_interruption_came_to(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.interruption = {"lived_s": 312.0, "first_hour": True, "unbilled": True, "lost_s": 4.5}
    said = "  taken back after 5 min 12 s (in its first hour), which are not billed, lost 4.5 s of work"
    assert said in terminal.run("show", job).stdout.splitlines()
    api.interruption = {"lived_s": 7200.0, "first_hour": False, "unbilled": False}
    assert "  taken back after 2 h 0 min" in terminal.run("show", job).stdout.splitlines()


def test_events_show_a_console_below_its_event(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.event(job, "instance.console", "boot-timeout: never heard; the last it printed")
    api.events[-1]["data"] = {"lines": ["agent.not_fetched", "again"]}
    assert terminal.run("events").stdout.splitlines()[-2:] == ["  | agent.not_fetched", "  | again"]


def test_why_gives_the_reasons_in_order(terminal: Terminal, api: FakeApi, job: str) -> None:
    assert terminal.run("why", job).stdout.splitlines() == [
        "it waits for an offer",
        "  local here this $0/h: has 2 CPUs, asked for 64",
    ]


def test_logs_of_an_attempt_that_there_never_was(terminal: Terminal, api: FakeApi, job: str) -> None:
    for words in (("logs", "--attempt", "2", job), ("logs", "-f", "--attempt", "2", job)):
        done = terminal.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"runner: {job} has no attempt 2; it has had 1 so far\n"


def test_a_group_without_a_command_says_which_there_are(terminal: Terminal) -> None:
    done = terminal.run("cml", "runner")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "runner: `runner cml runner` needs a command; `runner cml runner --help` tells of launch\n"


def test_logs_keep_the_streams_apart(terminal: Terminal, api: FakeApi, job: str) -> None:
    for words in (("logs", job), ("logs", "-f", job), ("logs", "--attempt", "1", job)):
        done = terminal.run(*words)
        assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)


def test_a_log_that_breaks_off_is_not_taken_for_a_whole_one(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.logs[job] = [(1, b"%06d\n" % n * 100) for n in range(100)]
    api.cut_log_every = 10_010
    assert terminal.run("logs", job).stdout.encode() == b"".join(data for _, data in api.logs[job])


def test_cancel_takes_a_job_or_a_run(terminal: Terminal, api: FakeApi, job: str) -> None:
    for words in (("cancel",), ("cancel", job, "--of-run")):
        done = terminal.run(*words)
        assert (done.returncode, done.stderr.splitlines()[0].partition(";")[0]) == (
            2,
            "runner: name a job, or give --of-run in a CI run",
        )
    done = terminal.run("cancel", "--of-run")
    assert (done.returncode, done.stderr) == (
        2,
        "runner: --of-run: this is no CI run; `runner cancel JOB` cancels one\n",
    )
    assert api.sent("POST", "/jobs/") == []


def test_cancel_and_stop_say_what_was_asked(terminal: Terminal, api: FakeApi, job: str) -> None:
    assert terminal.run("cancel", job, "--now").stdout == "j-1 cancelled\n"
    assert api.sent("POST", "/jobs/j-1/cancel") == [{"now": True}]
    assert terminal.run("stop", "i-7").stdout == "i-7 draining, asked to stop\n"
    assert terminal.run("stop").returncode == 2


def test_a_secret_comes_from_standard_input_only(terminal: Terminal, api: FakeApi) -> None:
    assert terminal.run("secret", "set", "HF_TOKEN", stdin="hunter2hunter2\n").returncode == 0
    assert api.secrets == {"HF_TOKEN": "hunter2hunter2"}
    assert terminal.run("secret", "set", "HF_TOKEN", "hunter2hunter2").returncode == 2
    listed = terminal.run("secret", "ls").stdout
    assert "HF_TOKEN" in listed
    assert "hunter2" not in listed


def test_a_token_is_printed_alone(terminal: Terminal, api: FakeApi) -> None:
    done = terminal.run("token", "create", "me", "--role", "viewer", "--expires", "2d")
    assert done.stdout == "rt_shown-once\n"
    assert api.sent("POST", "/tokens") == [{"name": "me", "role": "viewer", "expires_s": 172800.0}]


def test_offers_and_collecting(terminal: Terminal, api: FakeApi) -> None:
    assert "local here this on-demand $0/h" in terminal.run("offers", "--gpu", "T4").stdout
    assert api.sent("GET", "/offers") == [{"gpu": "T4"}]
    assert terminal.run("gc", "--dry-run").stdout == "runner-i-9 found\n"
    assert terminal.run("gc").stdout == "runner-i-9 ended\n"


def test_doctor_says_what_a_controller_launches_nothing_at(terminal: Terminal, api: FakeApi) -> None:
    why = "no runners at https://github.com/acme/vision: github.com refused the version 2.330.0"
    assert why not in terminal.run("doctor").stdout
    api.health = {"ok": True, "paused": {"https://github.com/acme/vision": why}}
    done = terminal.run("doctor")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, f"BAD  {why}")


def test_doctor_notes_what_a_controller_will_soon_launch_nothing_at(terminal: Terminal, api: FakeApi) -> None:
    soon = "github.com refuses actions-runner 2.330.0 from 2026-12-01 on: name a newer one in the settings"
    before = terminal.run("doctor")
    api.health = {"ok": True, "warnings": [soon]}
    done = terminal.run("doctor")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (before.returncode, f"note {soon}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_command_itself(terminal: Terminal, shell: str) -> None:
    assert "_RUNNER_COMPLETE" in terminal.run("completion", shell).stdout


def test_completion_answers_with_commands_and_options(terminal: Terminal) -> None:
    asked = {"_RUNNER_COMPLETE": "bash_complete"}
    terminal.extra = asked | {"COMP_WORDS": "runner ", "COMP_CWORD": "1"}
    assert "plain,logs" in terminal.run().stdout.split()
    terminal.extra = asked | {"COMP_WORDS": "runner run --che", "COMP_CWORD": "2"}
    assert terminal.run().stdout.split() == ["plain,--checkpoint"]


def test_nothing_is_said_of_a_pipe_that_closes(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.logs[job] = [(1, b"line\n" * 20_000)] * 20
    with terminal.begin("logs", job) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"line\n"
        running.stdout.close()
        assert running.stderr.read() == b""
