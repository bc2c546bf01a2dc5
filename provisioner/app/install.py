"""`runner serve --install`: a systemd unit that starts the controller at boot and again when it fails.

Jobs and local machines are processes of the same unit and must outlive a restart, so only the controller itself is
killed when the unit stops. Source: systemd.service(5), systemd.kill(5).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioner.domain.errors import InvalidRequest

NAME = "gpu-runner.service"
ENVIRONMENT = "serve.env"
_RUNNING = Path("/run/systemd/system")  # there while systemd is the system's manager. Source: sd_booted(3).


def install(home: Path, words: Sequence[str], *, folder: Path | None = None) -> list[str]:
    """Write the unit, and start it where systemd runs; what was done, in lines. Raises: InvalidRequest."""
    as_root = os.geteuid() == 0
    folder = folder or (Path("/etc/systemd/system") if as_root else Path.home() / ".config/systemd/user")
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(unit(home, words, target="multi-user.target" if as_root else "default.target"))
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="only systemd is known here") from error
    done = [f"wrote {path}; RUNNER_ variables for it go into {home / ENVIRONMENT}"]
    systemctl = ["systemctl", *([] if as_root else ["--user"])]
    for more in (["daemon-reload"], ["enable", "--now", NAME]):
        line = " ".join([*systemctl, *more])
        if not _RUNNING.exists():
            done.append(f"to do, once systemd runs: {line}")
        elif (ended := subprocess.run([*systemctl, *more], capture_output=True, text=True, check=False)).returncode:
            raise InvalidRequest(f"`{line}` failed: {ended.stderr.strip()}", hint=f"the unit is {path}")
        else:
            done.append(line)
    if not as_root:
        done.append("to have it run while you are logged out: loginctl enable-linger")
    return done


def unit(home: Path, words: Sequence[str], *, target: str) -> str:
    command = [sys.executable, "-m", "provisioner", "serve", *words, "--home", str(home)]
    return "\n".join(
        [
            "[Unit]",
            "Description=gpu-runner controller",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={' '.join(map(_quoted, command))}",
            f"EnvironmentFile=-{str(home / ENVIRONMENT).replace('%', '%%')}",
            "Restart=on-failure",
            "RestartSec=2",
            "KillMode=process",
            "TimeoutStopSec=60",
            "",
            "[Install]",
            f"WantedBy={target}",
            "",
        ]
    )


def _quoted(word: str) -> str:
    """One word of a command line. Source: systemd.service(5), "Command lines"."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"'
