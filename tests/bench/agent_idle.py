"""What agent and supervisor take: idle memory and processor time of each process, and how soon an agent is there."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from .home import Installed, installed
from .measure import cpu_s, resident_mib, say

SETTLED_S, IDLE_S = 10.0, 20.0  # probes that run once, in processes of their own, are over by then


def main() -> None:
    with installed() as home:
        job = home.submit("--no-workdir", "--", "sleep", "600")
        home.until(lambda: home.pids("supervisor"), 30, "the supervisor")
        time.sleep(SETTLED_S)
        took = _launched_to_joined_s(home, job)
        say("launch asked to agent joined", f"{took:.2f} s", "0.2 s for agent and supervisor")
        roles = {pid: role for role in ("agent", "supervisor", "respawn") for pid in home.pids(role)}
        before = {pid: cpu_s(pid) for pid in roles}
        time.sleep(IDLE_S)
        for pid, role in roles.items():
            used = f"{resident_mib(pid):.1f} MiB, {(cpu_s(pid) - before[pid]) / IDLE_S:.2%} of a core"
            say(f"{role}, a sleeping job below", used, "25 MiB, 0.2 %")
        home.run("cancel", job, "--now")


def _launched_to_joined_s(home: Installed, job: str) -> float:
    instance = home.job(job)["attempts_list"][0]["instance_id"]
    rows: list[dict[str, Any]] = home.json("events", "--instance", instance)
    at = {row["what"]: datetime.fromisoformat(row["at"]) for row in rows}
    return (at["instance.joined"] - at["instance.launching"]).total_seconds()


if __name__ == "__main__":
    main()
