#!/usr/bin/env python3
"""A stand-in for the forges' runner programs: one file that acts as the program by whose name it is called.

As `Runner.Listener` it is GitHub's: takes its configuration from the environment, opens a session at the fake forge
(tests/fakes/github/runner_api.py says how), is given a job, has it run by a second process with the hooks around it,
reports the end, and exits with the codes of the real one. As `gitlab-runner` it asks by GitLab's published job API, as
`act_runner` and `forgejo-runner` by Gitea's calls in JSON. `packed` and `alone` make of it what the forges publish.

It is run on its own, by whatever python3 there is: standard library only.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "2.330.0"
_OK, _TERMINATED, _RETRYABLE, _CONFLICT, _DEPRECATED = 0, 1, 2, 5, 7
_DYING_S = 2.0
_RUN_SH = '#!/bin/sh\ncd "$(dirname "$0")" && exec bin/Runner.Listener run "$@"\n'


def alone(version: str = VERSION) -> bytes:
    """The program as a single file."""
    return Path(__file__).read_bytes().replace(f'VERSION = "{VERSION}"'.encode(), f'VERSION = "{version}"'.encode(), 1)


def packed(version: str = VERSION) -> bytes:
    """The archive that GitHub publishes: a program in bin, run.sh, and a link among what comes with it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in (("./run.sh", _RUN_SH.encode()), ("./bin/Runner.Listener", alone(version))):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("./bin/Runner.Worker")
        link.type, link.linkname = tarfile.SYMTYPE, "Runner.Listener"
        archive.addfile(link)
    return gzip.compress(plain.getvalue(), mtime=0)


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"the forge answered {status}")
        self.status = status


class Told(BaseException):
    """A signal came while there was nothing to finish first."""


class Forge:
    """JSON over HTTP with one token. Raises: Refused, OSError."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self._base = base.rstrip("/")
        self._headers = headers

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **self._headers}
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code) from error
        return json.loads(text) if text.strip() else None


class Signals:
    """The first signal while idle ends the wait, while busy it asks for the job's end."""

    def __init__(self, *numbers: int) -> None:
        self.idle, self.told = True, threading.Event()
        for number in numbers:
            signal.signal(number, self._heard)

    def _heard(self, *_: object) -> None:
        self.told.set()
        if self.idle:
            raise Told

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        self.idle = False
        yield
        self.idle = True


def say(text: str) -> None:
    print(text, flush=True)


# --- GitHub's ---------------------------------------------------------------------------------------------------------


def listener(root: Path) -> int:
    files = {name: base64.b64decode(data) for name, data in json.loads(base64.b64decode(_jit())).items()}
    for name, data in files.items():
        (root / name).write_bytes(data)
    settings, credentials = json.loads(files[".runner"]), json.loads(files[".credentials"])
    forge = Forge(settings["ServerUrl"], {"authorization": f"Bearer {credentials['Data']['token']}"})
    try:
        return _listen(root, forge)
    except Refused as error:
        say(f"An error occurred: {error}")
        return _TERMINATED
    except OSError as error:
        say(f"An error occurred: {error}")
        return _RETRYABLE


def _jit() -> str:
    words = sys.argv[1:]
    given = words[words.index("--jitconfig") + 1] if "--jitconfig" in words else ""
    return os.environ.pop("ACTIONS_RUNNER_INPUT_JITCONFIG", given)


def _listen(root: Path, forge: Forge) -> int:
    signals = Signals(signal.SIGINT, signal.SIGTERM)
    session = ""
    try:
        try:
            session = forge.ask("POST", "/sessions", {"version": VERSION})["session"]
        except Refused as error:
            say(f"Cannot open a session: {error}")
            known = os.environ.get("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE") == "1"
            return {409: _CONFLICT, 426: _DEPRECATED if known else _TERMINATED}.get(error.status, _TERMINATED)
        say(f"Current runner version: '{VERSION}'")
        say("Listening for Jobs")
        job = None
        while job is None:
            job = forge.ask("GET", f"/sessions/{session}/job?wait_s=20")
        with signals.busy():
            conclusion, steps = _served(root, forge, signals, job)
            forge.ask("POST", f"/jobs/{job['id']}/end", {"conclusion": conclusion, "steps": steps})
        say(f"Job {job['name']} completed with result: {conclusion}")
    except Told:
        say("Exiting...")
        if session:
            with contextlib.suppress(Refused, OSError):
                forge.ask("DELETE", f"/sessions/{session}")
    return _OK


def _served(root: Path, forge: Forge, signals: Signals, job: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Run by a worker. Cancelled by the forge or by a signal, it is told so, and given a moment."""
    say(f"Running job: {job['name']}")
    worker = subprocess.Popen([sys.executable, __file__, "worker", str(root)], stdin=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    with worker.stdin:
        json.dump(job, worker.stdin)
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            with contextlib.suppress(Refused, OSError):
                if forge.ask("GET", f"/jobs/{job['id']}?wait_s=1")["cancelled"]:
                    signals.told.set()
                    return

    threading.Thread(target=watch, daemon=True).start()
    asked = False
    while worker.poll() is None:
        if signals.told.wait(0.02) and not asked:
            worker.send_signal(signal.SIGINT)
            asked = True
        elif asked:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(0.02)
    over.set()
    left = json.loads((root / "_diag/result.json").read_text())
    return ("cancelled" if asked else left["conclusion"]), left["steps"]


def worker(root: Path) -> int:
    """One job: the hook, its steps until one fails, the other hook. A hook that fails, fails the job."""
    job = json.load(sys.stdin)
    signals = Signals(signal.SIGINT)
    signals.idle = False
    owner, _, name = job["repository"].rpartition("/")
    work = root / "_work" / name / name
    work.mkdir(parents=True, exist_ok=True)
    (root / "_diag").mkdir(exist_ok=True)
    (root / "_work/_temp").mkdir(exist_ok=True)
    settings = json.loads((root / ".runner").read_text())
    env = {
        **os.environ,
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": job["repository"],
        "GITHUB_RUN_ID": str(job["run_id"]),
        "GITHUB_JOB": job["name"],
        "GITHUB_ACTOR": job.get("actor", owner),
        "RUNNER_NAME": settings["AgentName"],
        "RUNNER_OS": "Linux",
        "RUNNER_ARCH": "X64",
        "RUNNER_TEMP": str(root / "_work/_temp"),
        "RUNNER_WORKSPACE": str(work.parent),
        "GITHUB_WORKSPACE": str(work),
        "RUNNER_TRACKING_ID": f"github_{job['id']}",
        **job.get("env", {}),
    }
    steps: list[dict[str, Any]] = []
    good = _hook("ACTIONS_RUNNER_HOOK_JOB_STARTED", work, env, signals)
    for step in job["steps"] if good else []:
        code = _step(["bash", "-e", "-c", step["run"]], work, env, signals)
        steps.append({"name": step["name"], "exit_code": code})
        if code != 0 or signals.told.is_set():
            good = False
            break
    good = _hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", work, env, None) and good
    result = {"conclusion": "success" if good else "failure", "steps": steps}
    (root / "_diag/result.json").write_text(json.dumps(result))
    return _OK


def _hook(variable: str, work: Path, env: dict[str, str], signals: Signals | None) -> bool:
    path = os.environ.get(variable)
    return not path or _step(["bash", "-e", path], work, env, signals) == 0


def _step(words: list[str], work: Path, env: dict[str, str], signals: Signals | None) -> int:
    """Its output goes to the forge, not to ours."""
    with open(work.parent / "job.log", "ab") as log:
        child = subprocess.Popen(
            words, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    while child.poll() is None:
        if signals is None or not signals.told.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
            continue
        os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return child.returncode


# --- GitLab's ---------------------------------------------------------------------------------------------------------


def gitlab(words: list[str]) -> int:
    known = argparse.ArgumentParser(prog="gitlab-runner")
    known.add_argument("command", choices=["run-single"])
    for name in ("url", "name", "executor", "builds-dir", "cache-dir", "env", "pre-get-sources-script"):
        known.add_argument(f"--{name}", default="")
    known.add_argument("--pre-build-script", default="")
    known.add_argument("--max-builds", type=int, default=0)
    given = known.parse_args(words)
    token = os.environ.get("CI_SERVER_TOKEN", "")
    if not token or not given.url or given.executor != "shell" or given.max_builds != 1:
        say("FATAL: Missing Token, URL or executor")
        return _TERMINATED
    quit_asked = threading.Event()
    signal.signal(signal.SIGQUIT, lambda *_: quit_asked.set())
    signals = Signals(signal.SIGINT, signal.SIGTERM)
    forge = Forge(f"{given.url}/api/v4", {"runner-token": token})
    try:
        while not quit_asked.is_set():
            job = forge.ask("POST", "/jobs/request", {"token": token, "info": {"name": given.name}})
            if job is None:
                quit_asked.wait(0.2)
                continue
            with signals.busy():
                _gitlab_job(forge, given, signals, job)
            break
    except Told:
        pass
    except (Refused, OSError) as error:
        say(f"FATAL: {error}")
        return _TERMINATED
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # else one that comes as the interpreter ends would kill it
    return _OK


def _gitlab_job(forge: Forge, given: argparse.Namespace, signals: Signals, job: dict[str, Any]) -> None:
    work = Path(given.builds_dir) / str(job["id"]) / "project"
    work.mkdir(parents=True)
    env = {**os.environ, **{one["key"]: one["value"] for one in job.get("variables", [])}}
    name, _, value = given.env.partition("=")
    env[name] = value
    script = [given.pre_build_script, *(line for step in job["steps"] for line in step["script"])]
    code = 0
    for lines in ([given.pre_get_sources_script], script):
        code = code or _step(["bash", "-e", "-c", "\n".join(lines)], work, env, signals)
    state = "failed" if code or signals.told.is_set() else "success"
    forge.ask("PUT", f"/jobs/{job['id']}", {"token": job["token"], "state": state, "exit_code": code})


# --- Gitea's ----------------------------------------------------------------------------------------------------------


def gitea(words: list[str], program: str, *commands: str) -> int:
    known = argparse.ArgumentParser(prog=program)
    known.add_argument("--config", required=True)
    known.add_argument("command", choices=commands)
    known.add_argument("--wait", action="store_true", required=program == "forgejo-runner")
    given = known.parse_args(words)
    try:
        return _daemon(json.loads(Path(given.config).read_text())["runner"])
    except (Refused, OSError) as error:
        say(f"level=error msg={str(error)!r}")
        return _TERMINATED


def _call(forge: Forge, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return forge.ask("POST", f"/api/actions/runner.v1.RunnerService/{name}", body) or {}


def _daemon(settings: dict[str, Any]) -> int:
    about = json.loads(Path(settings["file"]).read_text())
    forge = Forge(about["address"], {"x-runner-uuid": about["uuid"], "x-runner-token": about["token"]})
    signals = Signals(signal.SIGINT, signal.SIGTERM)
    if Path(sys.argv[0]).name == "act_runner":  # the other has no hooks
        os.environ.update(settings["envs"])
    try:
        _call(forge, "Declare", {"version": VERSION, "labels": about["labels"]})
        while not (task := _call(forge, "FetchTask", {"tasksVersion": "0"}).get("task")):
            signals.told.wait(0.2)
        with signals.busy():
            work = Path("_work") / str(task["id"]) / "project"
            work.mkdir(parents=True)
            run_id = str(task["context"].get("run_id", task["id"]))
            env = {**os.environ, "GITHUB_REPOSITORY": task["context"]["repository"], "GITHUB_RUN_ID": run_id}
            good = _hook("ACTIONS_RUNNER_HOOK_JOB_STARTED", work, env, signals)
            for step in json.loads(base64.b64decode(task["workflowPayload"]))["steps"]:
                good = good and _step(["bash", "-e", "-c", step["run"]], work, env, signals) == 0
            good = _hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", work, env, None) and good
            result = "RESULT_CANCELLED" if signals.told.is_set() else "RESULT_SUCCESS" if good else "RESULT_FAILURE"
            _call(forge, "UpdateTask", {"state": {"id": task["id"], "result": result}})
    except Told:
        pass
    return _OK


def main() -> int:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    if words == ["--version"]:
        say(VERSION if name == "Runner.Listener" else f"{name} version v{VERSION}")
        return _OK
    if name == "gitlab-runner":
        return gitlab(words)
    if name == "act_runner":
        return gitea(words, name, "daemon")
    if name == "forgejo-runner":
        return gitea(words, name, "one-job")
    root = Path(__file__).absolute().parent.parent
    if words[:1] == ["worker"]:
        return worker(root)
    return listener(root)


if __name__ == "__main__":
    sys.exit(main())
