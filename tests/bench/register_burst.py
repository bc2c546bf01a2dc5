"""1,600 runners asked for at once of one controller, at a GitHub that lets 180 be made in any minute and answers after
0.3 s: when the last was made, beside when that could be at the earliest. In virtual time, by the real client.

The earliest is by GitHub's rule alone: 180 at once, and each other a minute after the one that was made 180 before it.
"""

from __future__ import annotations

import structlog

from tests.fakes.register_burst import Burst, burst
from tests.fakes.simstore import SimStore

from .measure import say

RUNNERS = 1600


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for within_s in (0.0, 60.0):
        _say(within_s, burst(SimStore(), RUNNERS, within_s=within_s))


def _say(within_s: float, done: Burst) -> None:
    asked = f"asked for within {within_s:.0f} s" if within_s else "asked for at once"
    figure = f"{max(done.made_s):.1f} s, {done.over_s:.2f} s more than GitHub's own {done.own_s:.1f} s"
    say(f"{RUNNERS} runners {asked}, the last one made", figure, "+ 2 s")
    say("the most in any minute, and refused", f"{done.most_in_a_minute}, {done.refused}", "180, none")
    say("the last agent told", f"{done.given_s:.1f} s")
    say("seconds in which no machine would be planned there", str(len(done.blocked)))
