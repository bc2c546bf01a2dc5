"""From pressing return to the first byte of a job's output, with a controller that runs: new machine and warm one.

Of the new machines also the time from when they were launched to when their agents had joined, as the events have it.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from datetime import datetime

from .home import Installed, installed
from .measure import say

TIMES = 7


def main() -> None:
    with installed() as home:
        home.json("ps")
        new = [_first_byte_s(home) for _ in range(TIMES)]
        say("runner run -- echo, first output, new machine", _shown(new), "1.5 s")
        say("launch asked to agent joined, as the events have it", _shown(_joined_s(home)), "0.2 s")
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


def _joined_s(home: Installed) -> list[float]:
    at = {(one["instance_id"], one["what"]): datetime.fromisoformat(one["at"]) for one in home.json("events")}
    joined = {name: when for (name, what), when in at.items() if what == "instance.joined"}
    return [(when - at[name, "instance.launching"]).total_seconds() for name, when in joined.items()]


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
