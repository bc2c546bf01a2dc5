"""How the command line starts: quickly, and a controller with it where none runs."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time

from .terminal import TOP, Terminal

HEAVY = ("click", "rich", "yaml", "pydantic", "fastapi", "sqlalchemy", "http.client", "asyncio")
SERVERS = ("rich", "yaml", "pydantic", "fastapi", "sqlalchemy", "uvicorn", "alembic", "structlog", "obstore", "asyncio")


def imported(code: str) -> set[str]:
    script = f"import sys; sys.argv = ['runner', '--version']; {code}; print(' '.join(sys.modules), file=sys.stderr)"
    environment = {"PYTHONPATH": str(TOP)}
    command = [sys.executable, "-S", "-c", script]
    return set(subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr.split())


def test_a_version_imports_nothing_heavy() -> None:
    found = imported("from provisioner.cli.main import main\ntry: main()\nexcept SystemExit: pass")
    assert not found & set(HEAVY)


def test_commands_of_a_client_import_nothing_of_a_server() -> None:
    names = ("run", "ps", "show", "logs", "why", "machines", "events", "pull", "cancel", "stop", "rerun", "gc", "db")
    code = "import site; site.main()\nimport importlib\n"
    code += f"for n in {names!r}: importlib.import_module('provisioner.cli.commands.' + n)"
    script = code + "\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & set(SERVERS)


def test_version_and_help_say_what_they_should(terminal: Terminal) -> None:
    assert terminal.run("--version").stdout.startswith("runner ")
    for words in ((), ("--help",), ("-h",)):
        assert terminal.run(*words).stdout.startswith("usage: runner COMMAND")
    assert not terminal.home.exists()


def test_the_version_is_small_and_soon(terminal: Terminal) -> None:
    """A loose bound on a busy machine; the figure itself is a benchmark's."""

    def best_s(*words: str) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], env=terminal.environment, capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        return min(times)

    assert best_s("-m", "provisioner", "--version") < 4 * best_s("-c", "pass")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def test_a_home_too_deep_for_a_socket_is_refused(terminal: Terminal) -> None:
    terminal.extra["RUNNER_HOME"] = str(terminal.folder / ("x" * 100))
    done = terminal.run("ps")
    assert done.returncode == 2
    assert "is too long a path for a socket in it; set RUNNER_HOME to a shorter one" in done.stderr


def test_a_socket_that_nobody_serves_is_no_obstacle(terminal: Terminal) -> None:
    terminal.home.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(terminal.api_path))
    terminal.extra["RUNNER_OBJECTS_URL"] = "nonsense://x"
    done = terminal.run("ps")
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1].startswith("runner: the embedded controller did not start; ")
