"""An embedded controller: how long from its start to its first answer, and what it takes while it has nothing to do.

The controller's own process is measured. It is started as the command line starts it.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from pathlib import Path

from .home import Installed, installed
from .measure import cpu_s, resident_mib, say

TIMES, IDLE_S = 5, 20.0


def main() -> None:
    ready = sorted(_ready_s() for _ in range(TIMES))
    say("embedded controller, empty home, first answer", f"{ready[TIMES // 2]:.2f} s (to {ready[-1]:.2f})", "1 s")
    with installed() as home:
        home.wait_done(home.submit("--no-workdir", "--", "true"))
        home.nothing_left()
        (pid,) = home.pids("controller")
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(IDLE_S)
        share = (cpu_s(pid) - before) / (time.monotonic() - began)
        used = f"{resident_mib(pid):.0f} MiB, {share:.2%} of a core"
        say("embedded controller after a job, idle", used, "100 MiB, 0.5 %")


def _ready_s() -> float:
    with installed() as home:
        began = time.perf_counter()
        with subprocess.Popen(
            home.command("serve", "--embedded"),
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            while not _answers(home.home / "control.sock"):
                if running.poll() is not None:
                    raise RuntimeError(f"the controller left with {running.returncode}\n{_log(home)}")
                time.sleep(0.005)
            took_s = time.perf_counter() - began
            running.terminate()
    return took_s


def _answers(path: Path) -> bool:
    connection = http.client.HTTPConnection("localhost", timeout=2)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(os.fspath(path))
        connection.request("GET", "/api/v1/status")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _log(home: Installed) -> str:
    return home.log()


if __name__ == "__main__":
    main()
