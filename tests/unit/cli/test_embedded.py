"""The controller that a command starts: by whom, in place of which, and with what of the caller's environment.

These start the real one: what is tested is how two processes meet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.client import Client
from provisioner.cli.embedded import begin, clean_environment
from provisioner.cli.failures import Unreachable
from tests.fakes.api_server import FakeApi
from tests.fakes.ports import free_port

from .terminal import TOP, Terminal


def status(terminal: Terminal) -> dict[str, Any]:
    """What the controller in this home says of itself."""
    script = (
        "import json; from provisioner.cli.embedded import connected; print(json.dumps(connected().get('/status')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=terminal.environment,
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def end(pid: int, number: int = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def home(terminal: Terminal) -> Iterator[Terminal]:
    """Whoever holds the home at the end is ended."""
    yield terminal
    with contextlib.suppress(FileNotFoundError, ValueError):
        end(int((terminal.home / "controller.lock").read_text()))


def test_commands_at_the_same_moment_start_one_controller(home: Terminal) -> None:
    started = [home.begin("ps") for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    for process in started:
        process.communicate()
    assert (home.home / "controller.log").read_text().count("controller.ready") == 1
    assert status(home)["embedded"] is True


def test_it_outlives_the_command_and_is_used_again(home: Terminal) -> None:
    assert status(home)["pid"] == status(home)["pid"]


def test_after_a_kill_the_next_command_starts_another(home: Terminal) -> None:
    first = status(home)["pid"]
    end(first, signal.SIGKILL)
    assert status(home)["pid"] != first


def test_one_that_is_ending_is_waited_for(home: Terminal) -> None:
    for _ in range(3):
        pid = status(home)["pid"]
        os.kill(pid, signal.SIGTERM)
        assert home.run("ps").returncode == 0


def test_a_home_given_relative_is_the_same_home_for_the_controller(home: Terminal) -> None:
    home.extra["RUNNER_HOME"] = "../home"
    assert Path(status(home)["home"]).resolve() == home.home.resolve()


def test_an_older_one_is_asked_to_step_down_and_replaced_once_it_has_gone(home: Terminal) -> None:
    home.home.mkdir()
    old = FakeApi(home.api_path, version="0.0.1")
    old.start()

    def leave() -> None:
        old.wait_for(lambda: old.sent("POST", "/shutdown"))
        old.stop()

    leaving = threading.Thread(target=leave)
    leaving.start()
    told = status(home)
    leaving.join()
    assert told["version"] != "0.0.1"
    assert old.sent("POST", "/shutdown")[0] == {"reason": "a newer command line"}


def test_a_served_one_is_used_whatever_its_version(home: Terminal) -> None:
    with FakeApi(home.api_path, version="0.0.1", embedded=False) as served:
        assert status(home)["version"] == "0.0.1"
        assert served.sent("POST", "/shutdown") == []


def test_what_is_said_is_of_this_start_and_not_of_an_earlier_one(home: Terminal) -> None:
    home.home.mkdir()
    (home.home / "controller.log").write_text("runner: something from last week\n")
    (home.home / "settings.yaml").write_text("max_instances: many\n")
    done = home.run("ps")
    assert done.returncode == 4
    assert "last week" not in done.stderr
    assert "max_instances" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("runner: the embedded controller did not start; ")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """As somebody with the pid 1 who has begun and does not answer yet."""
    folder.mkdir(exist_ok=True)
    with (folder / "controller.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("1")
        lock.flush()
        yield


def waits_for_the_lock(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        opened = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
        return str(folder / "controller.lock") in opened
    return False


def test_an_embedded_one_that_was_only_starting_is_asked_to_step_down_as_well(terminal: Terminal) -> None:
    with held(terminal.home):
        serving = terminal.begin("serve", "--port", str(free_port()))
        early = FakeApi(terminal.api_path)
        early.wait_for(lambda: waits_for_the_lock(serving.pid, terminal.home))
        with early:
            early.wait_for(lambda: early.sent("POST", "/shutdown"))
        assert serving.poll() is None
        serving.kill()
        serving.communicate()


def test_a_second_served_one_is_refused_at_once(terminal: Terminal) -> None:
    with held(terminal.home), FakeApi(terminal.api_path, embedded=False) as first:
        done = terminal.run("serve", "--port", str(free_port()))
        assert done.returncode == 3
        assert "is in use by the controller with pid 1; stop it first" in done.stderr
        assert first.sent("POST", "/shutdown") == []


def test_a_command_whose_controller_gave_way_uses_the_one_that_came(terminal: Terminal) -> None:
    (terminal.folder / "sitecustomize.py").write_text(
        "import os, sys\nif 'serve' in sys.orig_argv:\n    open('gave-way', 'w').close()\n    os._exit(0)\n"
    )
    terminal.extra["PYTHONPATH"] = f"{terminal.folder}:{TOP}"
    command = terminal.begin("ps")
    came = FakeApi(terminal.api_path, embedded=False)
    came.wait_for(lambda: (terminal.home / "gave-way").exists())
    with held(terminal.home), came:
        assert command.wait(20) == 0
        command.communicate()


def test_whoever_holds_the_home_and_does_not_answer_is_named(terminal: Terminal) -> None:
    client = Client(f"unix:{terminal.api_path}")
    with (
        held(terminal.home),
        pytest.raises(Unreachable, match="is in use by the controller with pid 1, which does not"),
    ):
        begin(client, terminal.home, ready_s=0.1)
    assert not (terminal.home / "controller.log").exists()


@pytest.mark.system
def test_a_controller_that_is_slow_to_start_is_waited_for_and_that_is_said(home: Terminal) -> None:
    (home.folder / "slow").mkdir()
    (home.folder / "slow" / "sitecustomize.py").write_text(
        "import sys, time\ntime.sleep(16 if 'serve' in sys.orig_argv else 0)\n"
    )
    home.extra["PYTHONPATH"] = str(home.folder / "slow")
    done = home.run("ps")
    assert done.returncode == 0
    assert done.stderr == "runner: the embedded controller is slow to start; waiting for it\n"


def test_the_environment_is_clean() -> None:
    given = {"HOME": "/h", "PATH": "/p", "HTTP_PROXY": "x", "GITHUB_TOKEN": "x", "AWS_ACCESS_KEY_ID": "k", "USER": "me"}
    assert clean_environment(given) == {"HOME": "/h", "PATH": "/p", "USER": "me"}


@pytest.mark.parametrize(("url", "kept"), [("s3://b", ["AWS_ACCESS_KEY_ID"]), ("gs://b", []), ("/a/folder", [])])
def test_credentials_go_along_only_for_their_own_store(url: str, kept: list[str]) -> None:
    given = {"RUNNER_OBJECTS_URL": url, "AWS_ACCESS_KEY_ID": "k"}
    assert sorted(set(clean_environment(given)) - {"RUNNER_OBJECTS_URL"}) == kept
