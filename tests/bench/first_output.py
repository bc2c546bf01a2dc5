"""From pressing return to the first byte of a job's output, with a controller that runs: new machine and warm one."""

from __future__ import annotations

import statistics
import subprocess
import time

from .home import Installed, installed
from .measure import say

TIMES = 7


def main() -> None:
    with installed() as home:
        home.json("ps")
        new = [_first_byte_s(home) for _ in range(TIMES)]
        say("runner run -- echo, first output, new machine", _shown(new), "1.5 s")
        _first_byte_s(home, "--idle-timeout", "300")
        warm = [_first_byte_s(home, "--idle-timeout", "300") for _ in range(TIMES)]
        say("runner run -- echo, first output, warm machine", _shown(warm), "0.3 s")


def _first_byte_s(home: Installed, *options: str) -> float:
    command = home.command("run", "--no-workdir", *options, "--", "echo", "here")
    began = time.perf_counter()
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        first = running.stdout.read(1)
        took_s = time.perf_counter() - began
        running.stdout.read()
    assert (first, running.returncode) == (b"h", 0)
    return took_s


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
