"""A provider whose calls wait for their tokens as those of AWS do, and the meter by which its cloud checks that.

Buckets are those of `providers.aws`, much smaller, so that an episode comes to their bottom. A new process begins with
full ones; so does its meter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from provisioner.domain.errors import Throttled
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, Offer
from provisioner.domain.ports import Clock, Provider
from provisioner.providers.aws.pace import Bucket, Calls, Rate

RATES: Mapping[Calls, Rate] = {Calls.READ: Rate(6, 0.5), Calls.LAUNCH: Rate(2, 0.2), Calls.DELETE: Rate(3, 0.5)}


class Meter:
    """Counts as the cloud does. `over` is told of each call that came without a token."""

    def __init__(self, clock: Clock, over: Callable[[str], None], rates: Mapping[Calls, Rate] = RATES) -> None:
        self._clock = clock
        self._over = over
        self._rates = rates
        self._left = {calls: rate.size for calls, rate in rates.items()}
        self._at_s = dict.fromkeys(rates, clock.monotonic())

    def arrived(self, calls: Calls) -> None:
        now_s, rate = self._clock.monotonic(), self._rates[calls]
        came_back = (now_s - self._at_s[calls]) * rate.per_s
        self._left[calls] = min(rate.size, self._left[calls] + came_back) - 1
        self._at_s[calls] = now_s
        if self._left[calls] < -1e-6:
            self._over(f"a call of class {calls} found no token: {-self._left[calls]:.2f} short")


class Paced:
    """`off`: calls take no token."""

    name = "sim"

    def __init__(
        self, cloud: Provider, clock: Clock, meter: Meter, *, off: bool = False, rates: Mapping[Calls, Rate] = RATES
    ) -> None:
        self._cloud = cloud
        self._meter = meter
        self._buckets = {} if off else {calls: Bucket(rate, clock) for calls, rate in rates.items()}

    @property
    def visibility_s(self) -> float:
        return self._cloud.visibility_s

    async def offers(self, need: Need) -> Sequence[Offer]:
        return await self._cloud.offers(need)

    async def launch(self, order: LaunchOrder) -> Machine:
        await self._token(Calls.LAUNCH)
        try:
            return await self._cloud.launch(order)
        except Throttled:
            self._emptied(Calls.LAUNCH)
            raise

    async def machines(self) -> Sequence[Listing]:
        await self._token(Calls.READ)
        try:
            return await self._cloud.machines()
        except Throttled:
            self._emptied(Calls.READ)
            raise

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        await self._token(Calls.DELETE)
        try:
            await self._cloud.terminate(machine_ref, name, scope)
        except Throttled:
            self._emptied(Calls.DELETE)
            raise

    async def _token(self, calls: Calls) -> None:
        if calls in self._buckets:
            await self._buckets[calls].take()
        self._meter.arrived(calls)

    def _emptied(self, calls: Calls) -> None:
        if calls in self._buckets:
            self._buckets[calls].empty()
