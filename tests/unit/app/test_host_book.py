"""Forgetting a host: refused while machines are on it, and what it takes to do it all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from provisioner.app.clock import SystemClock
from provisioner.app.hosts import HostBook
from provisioner.domain.errors import Conflict, InvalidRequest, NotFound
from provisioner.domain.hosts import Host
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.offer import Market, Offer
from tests.fakes.simstore import SimStore

T = TypeVar("T")
OFFER = Offer(
    "hosts",
    "attic",
    "attic",
    "attic",
    Market.ON_DEMAND,
    Decimal("0.10"),
    "a test",
    "hosts:attic",
    8,
    32.0,
    200.0,
    deadman_bound_s=4200.0,
)


class Book:
    """A host book whose only host, `attic`, answers or not, and how often the engine was told to look."""

    def __init__(self, store: SimStore, *, answers: bool = False, named: tuple[str, ...] = ()) -> None:
        self.port = store.port
        self.looks = 0
        self._answers = answers
        provider: Any = self
        reach: Any = None
        hosts = {name: Host(name, "10.0.0.7") for name in named}
        self.book = HostBook(store.port, hosts, reach, provider, SystemClock(), self._looked)

    async def answers(self, host: Host) -> bool:
        assert host.name == "attic"
        return self._answers

    def _looked(self) -> None:
        self.looks += 1

    async def add(self) -> None:
        await self.port.hosts.put(Host("attic", "10.0.0.7"))

    async def use(self) -> None:
        now = datetime.now(UTC)
        row = Instance("i-1", "runner-i-1", "bob", InstancePhase.PLANNED, OFFER, now, now)
        most = Decimal(1)
        await self.port.instances.plan(row, max_instances=1, max_usd_per_hour=most, reserve_usd_per_hour=most)


@pytest.fixture(scope="module")
def whole() -> SimStore:
    return SimStore()


@pytest.fixture
def store(whole: SimStore) -> SimStore:
    whole.empty(1)
    return whole


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


def test_the_refusal_says_what_force_would_do(store: SimStore) -> None:
    async def main() -> None:
        book = Book(store)
        await book.add()
        await book.use()
        with pytest.raises(Conflict) as refused:
            await book.book.drop("attic")
        assert refused.value.line == (
            "i-1 is on attic; `runner stop i-1` first; if attic is gone for good or was wiped, "
            "`runner hosts rm --force attic` closes what is on it, unconfirmed"
        )

    run(main())


def test_a_host_that_is_given_up_is_forgotten_and_it_is_recorded_by_whom(store: SimStore) -> None:
    async def main() -> None:
        book = Book(store)
        await book.add()
        await book.use()
        assert await book.book.give_up("attic", "ann") == ["i-1"]
        assert (await book.port.hosts.all(), await book.port.hosts.given_up()) == ([], {"attic": "ann"})
        (event,) = [one for one in await book.port.records.events() if one.what == "host.given_up"]
        assert event.message == (
            "ann has given attic up as gone or wiped; closed without a word from it: i-1; "
            "what may run there ends by itself 4200 s after it last heard this controller"
        )
        assert event.data == {"host": "attic", "by": "ann", "instances": ["i-1"]}
        assert book.looks == 1

    run(main())


def test_one_that_answers_is_not_given_up(store: SimStore) -> None:
    """What runs there would run on, and could be ended."""

    async def main() -> None:
        book = Book(store, answers=True)
        await book.add()
        await book.use()
        with pytest.raises(Conflict, match="attic answers"):
            await book.book.give_up("attic", "ann")
        assert await book.port.hosts.given_up() == {}

    run(main())


def test_force_changes_nothing_where_nothing_is_left(store: SimStore) -> None:
    async def main() -> None:
        book = Book(store)
        await book.add()
        assert await book.book.give_up("attic", "ann") == []
        assert (await book.port.hosts.all(), await book.port.hosts.given_up()) == ([], {})
        with pytest.raises(NotFound):
            await book.book.give_up("attic", "ann")

    run(main())


def test_one_that_the_settings_name_is_taken_out_there_first(store: SimStore) -> None:
    """Then its machines are nobody's, and can be closed though no host of that name is known."""

    async def main() -> None:
        book = Book(store, named=("attic",))
        await book.use()
        with pytest.raises(InvalidRequest, match="in the settings"):
            await book.book.give_up("attic", "ann")
        later = Book(store)
        with pytest.raises(Conflict, match="i-1 is on attic"):
            await later.book.drop("attic")
        assert await later.book.give_up("attic", "ann") == ["i-1"]

    run(main())
