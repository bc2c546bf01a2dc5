"""What is said of a job's time."""

from __future__ import annotations

from provisioner.reports.found import Found
from provisioner.reports.runs import run_section


def test_waiting_ends_where_what_is_made_ready_begins() -> None:
    timings = {"workspace_s": 2.0, "setup_s": 100.0, "run_s": 6.0, "waited_for_room_s": 1.0}
    attempt = {"started_at": "2026-11-21T09:01:45+00:00", "facts": {"timings": timings}}
    record = {"created_at": "2026-11-21T09:00:00+00:00", "attempts_list": [attempt]}
    text = "".join(line for section in run_section(Found("j", record=record)) for line in section.items)
    assert "waiting 3.0 s, workspace 2.0 s, setup 1 min 40 s, run 6.0 s, waited for room 1.0 s" in text
