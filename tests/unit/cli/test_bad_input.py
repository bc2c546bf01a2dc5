"""Bad input, each with one line that says what to do, the right exit code, and nothing stored."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes.api_server import FakeApi

from .terminal import Terminal

RUN = ("run", "--no-workdir")
CASES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no command": (RUN, 2, "there is nothing to run; give a command after --, or `run:` in the file"),
    "unknown GPU": ((*RUN, "--gpu", "T44", "--", "x"), 2, "unknown GPU 'T44'; did you mean T4?"),
    "GPU count": ((*RUN, "--gpu", "T4:99", "--", "x"), 2, "GPU count out of range in 'T4:99'; ask for 1 to 64"),
    "cpus": ((*RUN, "--cpus", "many", "--", "x"), 2, "cpus: 'many' is not a number; write 8 or 8+"),
    "duration": ((*RUN, "--timeout", "soon", "--", "x"), 2, "timeout: 'soon' is not a duration; write 90, 30s, 5m"),
    "size": ((*RUN, "--log-limit", "big", "--", "x"), 2, "log_limit: 'big' is not a size; write 500MiB or 10GiB"),
    "output outside": ((*RUN, "--output", "../x", "--", "x"), 2, "output '../x' is outside the workspace"),
    "checkpoint outside": ((*RUN, "--checkpoint", "/ckpt", "--", "x"), 2, "checkpoint '/ckpt' is outside"),
    "input outside": ((*RUN, "--input", "s3://b/k=../k", "--", "x"), 2, "input target '../k' is outside"),
    "environment": ((*RUN, "--env", "NOVALUE", "--", "x"), 2, "--env 'NOVALUE' is not NAME=VALUE"),
    "short secret": ((*RUN, "--secret", "SHORT", "--", "x"), 2, "secret SHORT is shorter than 6 characters"),
    "no such file": ((*RUN, "-f", "none.yaml"), 2, "cannot read none.yaml: No such file or directory"),
    "no such folder": (("run", "--workdir", "none", "--", "x"), 2, "none is not a folder; --workdir names the folder"),
    "unknown option": ((*RUN, "--gpus", "T4", "--", "x"), 2, "No such option"),
    "unknown command": (("pss",), 2, "unknown command 'pss'; did you mean ps?"),
    "unknown job": (("show", "j-none"), 2, "no job 'j-none'; `runner ps -a` lists them"),
    "empty job": (("show", ""), 2, "Invalid value for 'JOB': '' is no name"),
    "a folder for a job": (("logs", ".."), 2, "Invalid value for 'JOB': '..' is no name"),
    "empty machine": (("stop", " "), 2, "Invalid value for '[INSTANCE]': ' ' is no name"),
    "port": (("serve", "--port", "99999"), 2, "Invalid value for '--port': 99999 is not in the range 0<=x<=65535."),
    "missing argument": (("show",), 2, "Missing argument 'JOB'"),
    "token's expiry": (("token", "create", "me", "--expires", "x"), 2, "--expires: 'x' is not a duration"),
    "offers": (("offers", "--gpu", "nope"), 2, "unknown GPU 'nope'"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_an_exit_code(terminal: Terminal, api: FakeApi, name: str) -> None:
    words, code, said = CASES[name]
    terminal.extra["SHORT"] = "abc"
    done = terminal.run(*words)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"runner: {said}")
    assert done.returncode == code
    assert api.jobs == {}


def test_a_tree_over_the_limit_names_the_largest(terminal: Terminal, api: FakeApi) -> None:
    for name, size in (("small", 10), ("weights", 2**30), ("data", 2**29)):
        with (terminal.folder / name).open("wb") as file:
            file.truncate(size)
    done = terminal.run("run", "--", "x")
    assert done.returncode == 2
    assert "over the limit of 1.0 GiB; largest: weights (1.0 GiB), data (512.0 MiB), small (10 B)" in done.stderr
    assert api.sent("PUT", "/blobs/") == []


REFUSALS = [
    (400, "InvalidRequest", 2),
    (404, "NotFound", 2),
    (401, "Unauthenticated", 3),
    (403, "Forbidden", 3),
    (409, "Conflict", 3),
    (402, "OverBudget", 3),
    (422, "Impossible", 3),
    (500, "RunnerError", 3),
]


@pytest.mark.parametrize(("status", "kind", "code"), REFUSALS)
def test_a_refusal_is_told_in_the_controllers_words(
    terminal: Terminal, api: FakeApi, status: int, kind: str, code: int
) -> None:
    api.refuse["POST", "/jobs"] = (status, {"kind": kind, "message": "it cannot be", "hint": "do this"})
    done = terminal.run(*RUN, "--", "x")
    assert (done.stderr, done.returncode) == ("runner: it cannot be; do this\n", code)


def test_a_controller_that_is_not_there(terminal: Terminal) -> None:
    terminal.extra["RUNNER_SERVER"] = "http://127.0.0.1:1"
    done = terminal.run("ps")
    assert done.returncode == 4
    assert done.stderr.startswith("runner: no controller at http://127.0.0.1:1: ")


@pytest.mark.parametrize("server", ["controller:8765", "http://h:port", "http://", "https://h:99999", "ftp://h"])
def test_a_server_that_is_no_address(terminal: Terminal, server: str) -> None:
    terminal.extra["RUNNER_SERVER"] = server
    done = terminal.run("ps")
    assert done.returncode == 2
    assert done.stderr == f"runner: RUNNER_SERVER is {server!r}; write http://HOST:PORT or https://HOST:PORT\n"


def test_an_authority_that_is_no_file(terminal: Terminal) -> None:
    terminal.extra |= {"RUNNER_SERVER": "https://127.0.0.1:1", "RUNNER_CA": "/none.pem"}
    done = terminal.run("ps")
    assert done.returncode == 2
    assert done.stderr.startswith("runner: RUNNER_CA is '/none.pem'")


def test_a_token_that_no_header_can_hold(terminal: Terminal) -> None:
    terminal.extra |= {"RUNNER_SERVER": "http://127.0.0.1:1", "RUNNER_TOKEN": "rt_\u00e9\nx"}
    done = terminal.run("ps")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_user_whose_name_fits_no_header(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra["LOGNAME"] = "DOMAIN\\j\u00f6rg"
    assert terminal.run("ps").returncode == 0


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_whoever_started_it_has_closed(terminal: Terminal, api: FakeApi, closed: str) -> None:
    """As cron jobs and daemons do. The job runs; what nobody can read is not printed."""
    words = f'"{sys.executable}" -m provisioner run --no-workdir -- x {closed}'
    done = subprocess.run(
        ["sh", "-c", words], env=terminal.environment, cwd=terminal.folder, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, len(api.jobs)) == (0, 1), done.stderr
    assert b"bug" not in done.stderr
