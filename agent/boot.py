"""A rented machine's first program, sent whole in its user-data: arms the machine's end, then fetches the agent.

It imports nothing of ours, because it is there before anything of ours is. `boot.py arm STATE` is run at every boot,
before anything else; it starts `deadman` (which ends the machine if nobody comes for it, or the agent hangs) and `run`
(which fetches agent.pyz, proves its digest and becomes it), under systemd where there is one. STATE holds `boot.json`
(where the agent is to be had), `config.json` (the agent's) and `boot.py` itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Optional

_LOOK_S = 5.0
_MARGIN_S = 60.0  # after the agent's own limits, which act first
_FETCH_S = 60.0
_BROUGHT_S = 0.2
_MOST_BYTES = 64 * 2**20
_TAIL_BYTES, _TAIL_LINES = 1000, 10  # arbitrary: of a startup script's output, what is told if it fails
_METADATA_S = 2.0
_SYSTEMD = "/run/systemd/system"  # there is one. Source: sd_booted(3).
_UNITS = {
    "deadman": "ends this machine when nobody looks after it",
    "run": "runs what its controller wants on this machine",
}
_UNIT = """[Unit]
Description=gpu-runner: {about}
StartLimitIntervalSec=0

[Service]
ExecStart={python} -I {state}/boot.py {command} {state}
Restart={restart}
RestartSec=1
KillMode=process
{more}StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
"""


def main(words: list[str]) -> int:
    """Exit code. 2: not a command."""
    commands: dict[str, Callable[[str], int]] = {"arm": arm, "deadman": deadman, "run": run}
    if len(words) != 2 or words[0] not in commands:
        print("usage: boot.py arm STATE | deadman STATE | run STATE", file=sys.stderr)
        return 2
    return commands[words[0]](os.path.abspath(words[1]))


def arm(state: str) -> int:
    """The end first. Doing it again, at the next boot, changes nothing that runs."""
    if not os.path.isdir(_SYSTEMD):
        for command in _UNITS:
            words = [sys.executable, "-I", os.path.join(state, "boot.py"), command, state]
            subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
        return 0
    for command, text in unit_files(state).items():
        with open(os.path.join("/etc/systemd/system", command), "w") as file:
            file.write(text)
    subprocess.run(["systemctl", "daemon-reload"], check=False)
    for command in unit_files(state):
        subprocess.run(["systemctl", "enable", command], check=False)
        subprocess.run(["systemctl", "start", "--no-block", command], check=False)
    return 0


def unit_files(state: str) -> dict[str, str]:
    """Texts of the systemd units, by name."""
    return {
        f"gpu-runner-{command}.service": _UNIT.format(
            about=about,
            python=sys.executable,
            state=state,
            command=command,
            restart="on-failure" if command == "run" else "always",
            more="OOMScoreAdjust=-900\n" if command == "deadman" else "",  # jobs would inherit it from `run`
        )
        for command, about in _UNITS.items()
    }


def run(state: str) -> int:
    """Become the agent, once it is there: fetched, or, where there is no address to fetch it from, brought over SSH.
    Where there is no systemd, its own loop starts it again."""
    path = os.path.join(state, "agent.pyz")
    pause_s = 1.0
    while _digest(path) != (boot := _read(state, "boot.json"))["sha256"]:
        for url in boot["urls"]:
            try:
                _fetch(url, path, boot.get("ca_pem", ""), boot["sha256"])
                break
            except (OSError, ValueError, http.client.HTTPException) as error:
                _say("agent.not_fetched", url=url, error=str(error))
        else:
            time.sleep(pause_s if boot["urls"] else _BROUGHT_S)
            pause_s = min(pause_s * 2, 15.0)
    if boot.get("startup") and not _read(state, "startup.json"):
        _start_up(state, boot["startup"])
    command = "run" if os.path.isdir(_SYSTEMD) else "respawn"
    return os.execv(sys.executable, [sys.executable, "-I", path, command, state])


def _start_up(state: str, script: str) -> None:
    """Run it to its end, heard on the console; how it ended is left for the agent to tell. What it leaves running would
    hold a pipe open for ever, so it writes to a file."""
    path = os.path.join(state, "startup.log")
    with open(path, "wb") as log, open(path, "rb") as said:
        running = subprocess.Popen(
            ["sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
        over = False
        while not over:
            over = running.poll() is not None
            sys.stderr.buffer.write(said.read())
            sys.stderr.buffer.flush()
            time.sleep(0 if over else 0.1)
        said.seek(-min(said.tell(), _TAIL_BYTES), os.SEEK_END)
        tail = said.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    if running.returncode:
        _say("startup.failed", code=running.returncode)
    _write(state, "startup.json", {"code": running.returncode, "tail": tail}, durable=True)


def _fetch(url: str, path: str, ca_pem: str, sha256: str) -> None:
    """Raises: OSError, ValueError when it is not what was promised."""
    context = ssl.create_default_context(cadata=ca_pem or None) if url.startswith("https:") else None
    with urllib.request.urlopen(url, timeout=_FETCH_S, context=context) as answer:
        data = answer.read(_MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("what came is not the agent that was promised")
    with open(f"{path}.part", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def deadman(state: str) -> int:
    """Never returns before the machine is to end."""
    limits = _read(state, "config.json")
    margin_s = min(_MARGIN_S, limits["boot_deadline_s"])
    while True:
        with contextlib.suppress(OSError, ValueError):
            pin(state, limits["metadata_url"], limits["name"])
        why = overdue(state, limits, margin_s)
        if why:
            _say("machine.ending", why=why)
            power_off(state, limits)
        time.sleep(min(_LOOK_S, margin_s / 4))


def overdue(state: str, limits: dict[str, Any], margin_s: float) -> str:
    """Why the machine has to end, agent or not; "" while it has not. Counts what has passed, over reboots too."""
    now, boot_id = time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id()
    before = _read(state, "lived.json")
    same = before.get("boot_id") == boot_id
    lived = before.get("lived", 0.0) + (now - before.get("at", now) if same else 0.0)
    _write(state, "lived.json", {"boot_id": boot_id, "at": now, "lived": lived})
    joined = os.path.exists(os.path.join(state, "session.json"))
    if not joined and lived > limits["boot_deadline_s"] + margin_s:
        return f"no agent joined within {limits['boot_deadline_s']:g} s"
    longest = limits["lifetime_s"] + limits["hold_unsent_s"] + margin_s
    if lived > longest:
        return f"older than {longest:g} s"
    agent = _read(state, "deadman.json")  # what the agent notes of its own limits, every ten seconds
    hung = limits["orphan_s"] + limits["hold_unsent_s"] + margin_s
    if joined and agent.get("boot_id") == boot_id and now - agent.get("at", now) > hung:
        return f"the agent has not moved for {hung:g} s"
    return ""


def power_off(state: str, config: dict[str, Any]) -> bool:
    """End the machine, if it is beyond doubt the one that was rented. Whether it was tried."""
    if config["on_end"] != "poweroff":
        return False
    if not may_power_off(state, config["metadata_url"]):
        _say("poweroff.refused", why="this is not, beyond doubt, the machine that was rented")
        return False
    _say("machine.powering_off")
    subprocess.run(["poweroff"], check=False)
    return True


def pin(state: str, url: str, name: str) -> bool:
    """Remember this instance's id once, and that it matched in this boot. False when the service was silent."""
    pinned = _read(state, "identity.json")
    found = instance_id(url)
    if found is None:
        return False
    if not pinned:
        if name.encode() not in (metadata(url, "user-data") or b""):
            _say("identity.not_ours", instance_id=found)
            return True
        pinned = {"instance_id": found}
    if pinned["instance_id"] == found and pinned.get("matched_boot") != _boot_id():
        _write(state, "identity.json", {**pinned, "matched_boot": _boot_id()}, durable=True)
    return True


def may_power_off(state: str, url: str) -> bool:
    """Whether the pinned id is the metadata service's; a service that is silent is excused by a match in this boot."""
    pinned = _read(state, "identity.json")
    if not pinned:
        return False
    found = instance_id(url)
    if found is None:
        return bool(pinned.get("matched_boot") == _boot_id())
    return bool(found == pinned["instance_id"])


def instance_id(url: str) -> Optional[str]:
    """What the metadata service says; None when it is silent."""
    answer = metadata(url, "meta-data/instance-id")
    return answer.decode("utf-8", "replace").strip() if answer else None


def metadata(url: str, what: str) -> Optional[bytes]:
    """One item, by a session token where the service has them (IMDSv2). Source: EC2 user guide, instance metadata."""
    token = _request(url, "PUT", "/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"x-aws-ec2-metadata-token": token.decode("latin-1")} if token else {}
    return _request(url, "GET", f"/latest/{what}", headers)


def _request(url: str, method: str, target: str, headers: dict[str, str]) -> Optional[bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_METADATA_S)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _read(state: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(state, name)) as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(state: str, name: str, value: dict[str, Any], durable: bool = False) -> None:
    """`deadman` and the agent may both do it at once."""
    path = os.path.join(state, name)
    part = f"{path}.{os.getpid()}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, path)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _say(what: str, **fields: Any) -> None:
    """As the agent says things, on the console."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps({"at": at, "what": what, **fields}, default=str), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
