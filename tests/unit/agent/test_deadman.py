"""The table of what is due when: limits against what has passed."""

from __future__ import annotations

import pytest

from agent import wire
from agent.deadman import Passed, judge

LIMITS = wire.AgentConfig(
    "i", "n", ["unix:/x"], "t", "exit", boot_deadline_s=10, idle_s=20, lifetime_s=1000, silence_s=30, orphan_s=60,
    hold_unsent_s=40,
)  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "running", "kept", "stops", "ends"),
    [
        (Passed(9, 9, 9, joined=False), 0, 0, False, False),
        (Passed(11, 11, 11, joined=False), 0, 0, False, True),
        (Passed(500, 1, 19), 0, 0, False, False),
        (Passed(500, 1, 21), 0, 0, False, True),
        (Passed(500, 1, 21), 0, 1, False, False),
        (Passed(500, 1, 21), 1, 1, False, False),
        (Passed(500, 31, 5), 0, 0, False, True),
        (Passed(500, 31, 5), 0, 1, False, True),
        (Passed(500, 31, 0), 1, 1, False, False),
        (Passed(500, 61, 0), 1, 1, True, False),
        (Passed(500, 99, 0, stopping=39), 1, 1, True, False),
        (Passed(500, 99, 0, stopping=41), 1, 1, True, True),
        (Passed(1001, 1, 0), 1, 1, True, False),
        (Passed(1001, 1, 0), 0, 1, False, False),
        (Passed(1001, 1, 0), 0, 0, False, True),
    ],
)
def test_what_is_due(passed: Passed, running: int, kept: int, stops: bool, ends: bool) -> None:
    verdict = judge(LIMITS, passed, running, kept)
    assert (bool(verdict.stop), bool(verdict.end)) == (stops, ends)
