"""More runners than a forge lets be made in a minute: `bench register_burst` is the same with 1,600."""

from __future__ import annotations

import pytest

from tests.fakes.register_burst import burst
from tests.fakes.simstore import SimStore

pytestmark = pytest.mark.system


def test_what_a_forge_lets_be_made_later_is_made_as_soon_as_it_does_and_stops_nothing() -> None:
    done = burst(SimStore(), 200)
    assert (done.own_s, done.over_s <= 2.0, done.made_s == sorted(done.made_s)) == (60.0, True, True)
    assert (done.refused, done.events, done.blocked[1:]) == (0, [], [])
    assert done.most_in_a_minute <= 180
