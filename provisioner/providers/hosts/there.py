"""What runs on a host, sent there each time as words of a command: look, launch, open, console and end.

`main(VERB, ROOT)` reads one JSON object on standard input and prints one. ROOT holds `machines` (as `local.folder` has
them) and one copy of each agent that is in use. Where we are root, each slot has a user of its own, made when it is
first needed; what that user leaves behind goes with the machine. The standard library of Python 3.9 only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provisioner.providers.local.folder import MachineFolder

_ASK = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
_ASK_S = 20
_CONSOLE_BYTES = 2**16
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
_USER = "gpu-runner-{}"
_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_ROOTS, _ANYBODYS = "/var/lib/gpu-runner", "~/.gpu-runner"


def main(verb: str, root: str) -> int:
    """Exit code; the last line on stderr says what was wrong. `root` is a folder to have one of ours in; "" for the
    usual place."""
    verbs = {"look": look, "launch": launch, "open": open_socket, "console": console, "end": end}
    usual = _ROOTS if os.geteuid() == 0 else _ANYBODYS
    place = (Path(root) / "gpu-runner" if root else Path(usual)).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    os.chmod(place, 0o711)  # slots' users come through, and see nothing
    told = sys.stdin.buffer.read()
    try:
        print(json.dumps(verbs[verb](place, told)))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 1
    return 0


def look(place: Path, told: bytes) -> dict[str, Any]:
    """What the computer has, and the machines on it: `stopped` are those that left by themselves, and hold their slots
    until they are ended. `driver` is its own tool's answer, "" where there is none."""
    folder = _folder(place)
    living, every = folder.living(), folder.all()
    names = {one["name"] for one in living}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machines": living,
        "stopped": [one for one in every if one["name"] not in names and folder.started(one["name"])],
        "taken": len(every),
        "cpus": os.cpu_count() or 1,
        "memory_gib": pages / 2**30,
        "disk_gib": shutil.disk_usage(place).free / 2**30,
        "arch": platform.machine(),
        "driver": _driver(),
        "root": os.geteuid() == 0,
        "place": str(place),
    }


def _driver() -> str:
    """A broken driver can hang whoever calls into it."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(_ASK, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout
    return ""


def launch(place: Path, told: bytes) -> dict[str, Any]:
    """One machine in a free slot; `full` when there is none, `ended` when it was ended before. After the first line
    comes the agent."""
    head, _, agent = told.partition(b"\n")
    order = json.loads(head)
    folder, name = _folder(place), order["described"]["name"]
    with _alone(place):
        if folder.ended(name):
            return {"ended": True}
        taken = {one["name"]: one["slot"] for one in folder.all()}  # until its machine was ended, alive or not
        free = [slot for slot in range(order["slots"]) if slot not in taken.values()]
        if name not in taken and not free:
            return {"full": True}
        slot = taken.get(name, free[0] if free else 0)
        user = _user(place, slot) if os.geteuid() == 0 else None
        environment = {} if not user else {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
        if order["gpus"]:
            each = order["gpus"] // order["slots"]
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as the driver's tool counts them
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(slot * each + n) for n in range(each))
        kept = folder.launch(
            {**order["described"], "slot": slot, "user": user.pw_name if user else ""},
            order["config"],
            _keep(place, agent),
            environment=environment,
            owner=(user.pw_uid, user.pw_gid) if user else None,
            python=_python(user),
        )
        return {"kept": kept}


def _python(user: pwd.struct_passwd | None) -> str:
    """One that the user may run: root's own may lie where nobody else can look."""
    if user is None:
        return sys.executable
    for path in (sys.executable, *_PYTHONS):
        with contextlib.suppress(OSError):
            if not subprocess.run([path, "-I", "-c", ""], user=user.pw_uid, check=False).returncode:
                return path
    raise OSError(f"{user.pw_name} may run none of {', '.join((sys.executable, *_PYTHONS))}")


def _keep(place: Path, agent: bytes) -> Path:
    path = place / f"agent-{hashlib.sha256(agent).hexdigest()[:16]}.pyz"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(agent)
        part.chmod(0o644)
        part.replace(path)
    return path


def open_socket(place: Path, told: bytes) -> dict[str, Any]:
    """The socket that was joined belongs to the machine's user."""
    name = json.loads(told)["name"]
    user = _folder(place).described(name)["user"]
    if user:
        entry = pwd.getpwnam(user)
        path = place / "machines" / name / "state" / "controller.sock"
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)  # the folder is the job's
    return {}


def console(place: Path, told: bytes) -> dict[str, Any]:
    """The end of what the machine printed; "" of what never was."""
    return {"text": _folder(place).console(json.loads(told)["name"], _CONSOLE_BYTES)}


def end(place: Path, told: bytes) -> dict[str, Any]:
    """The machine, its processes, and whatever its user left; the last one takes the agents with it."""
    name = json.loads(told)["name"]
    folder = _folder(place)
    with _alone(place):
        if not folder.end(name, lambda kept: _clean(kept["user"]) if kept["user"] else None):
            return {"left": "processes that do not die"}
        if not folder.all():
            for path in place.glob("agent-*"):
                path.unlink()
    return {}


def _folder(place: Path) -> MachineFolder:
    folder = MachineFolder(place / "machines")
    os.chmod(folder.path, 0o711)
    return folder


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One launch or end at a time, whoever asks."""
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _user(place: Path, slot: int) -> pwd.struct_passwd:
    name, home = _USER.format(slot), place / "homes" / str(slot)
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(name)
        _make_home(entry)
        return entry
    words = ["useradd", "--system", "--home-dir", str(home), "--shell", "/bin/sh", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot make the user {name}: {done.stderr.strip()}")
    entry = pwd.getpwnam(name)
    _make_home(entry)
    return entry


def _make_home(entry: pwd.struct_passwd) -> None:
    os.makedirs(os.path.dirname(entry.pw_dir), mode=0o711, exist_ok=True)
    os.makedirs(entry.pw_dir, mode=0o700, exist_ok=True)
    os.chown(entry.pw_dir, entry.pw_uid, entry.pw_gid)


def _clean(name: str) -> None:
    """Everything of a user whose last process is to be gone: processes first, so that nothing comes after."""
    entry = pwd.getpwnam(name)
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_uid == entry.pw_uid:
                os.kill(int(path.name), signal.SIGKILL)
    shutil.rmtree(entry.pw_dir, ignore_errors=True)
    for temporary in _TEMPORARY:
        with contextlib.suppress(OSError):
            for left in os.scandir(temporary):
                if left.stat(follow_symlinks=False).st_uid == entry.pw_uid:
                    _remove(left)


def _remove(left: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(left.path) if left.is_dir(follow_symlinks=False) else os.unlink(left.path)
