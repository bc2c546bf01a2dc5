"""What a listing makes known of one instance."""

from __future__ import annotations

import random
from datetime import timedelta

from structlog.testing import capture_logs

from provisioner.domain.facts import Absent, Seen, Sighting, Unknown
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.offer import LaunchOrder, Market
from provisioner.domain.policy import Policy
from provisioner.engine.observe import Observed
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.virtual import SimClock, run_virtually


def sightings(*, tells_ended: bool) -> list[Sighting]:
    """Of a machine at work, and right after it was terminated, by a controller that has listened for a moment."""

    async def main() -> list[Sighting]:
        clock = SimClock()
        cloud = SimCloud(clock, random.Random(3), faults=Faults.none(), tells_ended=tells_ended)
        offer, now = cloud.offer("north", Market.ON_DEMAND), clock.now()
        row = Instance("i-1", "runner-i-1", "ada", InstancePhase.STOPPING, offer, now, now)
        await cloud.launch(LaunchOrder(row.name, "c-1", offer, "ada", now + timedelta(days=1), "{}", 0.0))
        await clock.sleep(cloud.visibility_s)
        observed = Observed({"sim": cloud}, clock, Policy(), lambda: None)
        found = []
        for _ in range(2):
            await observed.refresh_fully()
            found.append(observed.sighting(row))
            await cloud.terminate("", row.name, offer.scope)
            while cloud.there:
                await clock.sleep(0.5)
        return found

    return run_virtually(main())


def told_after(broken: bool) -> list[str]:
    """What is logged once the loop goes on after a minute."""

    async def main() -> list[str]:
        clock = SimClock()
        observed = Observed({}, clock, Policy(), lambda: None)
        if broken:
            await observed.close()
        await clock.sleep(60)
        with capture_logs() as logged:
            assert observed.keep_time()
        return [one["event"] for one in logged]

    return run_virtually(main())


def test_a_loop_that_broke_off_and_waited_has_not_slept() -> None:
    """Nobody's silence counts either way."""
    assert told_after(broken=True) == ["engine.resumed"]
    assert told_after(broken=False) == ["controller.was_away"]


def test_absence_is_unknown_at_first_and_an_end_is_known_at_once() -> None:
    at_work, after = sightings(tells_ended=False)
    assert isinstance(at_work, Seen)
    assert isinstance(after, Unknown)
    at_work, after = sightings(tells_ended=True)
    assert isinstance(at_work, Seen)
    assert isinstance(after, Absent)
    assert after.ended
