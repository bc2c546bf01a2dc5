"""Tunnels, against a shell of ours: what is wanted is held, what breaks is made again, and nothing else is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from provisioner.bootstrap.tunnels import AT_ONCE, Tunnels
from provisioner.domain.errors import BootstrapError, NoAnswer
from provisioner.domain.shell import Login, Ran, Session, Way


class Line:
    host_key = ""

    def __init__(self) -> None:
        self.cut = asyncio.Event()
        self.joined: list[tuple[str, str]] = []

    async def run(self, words: Sequence[str], data: bytes = b"", *, timeout_s: float = 60.0) -> Ran:
        return Ran(0, b"", b"")

    async def join(self, remote: str, local: str) -> None:
        self.joined.append((remote, local))

    async def closed(self) -> None:
        await self.cut.wait()


class Exchange:
    """Every host answers, but those in `dead`. `lines` are the connections that are open, by host."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.lines: dict[str, Line] = {}
        self.connecting = self.most = self.made = 0
        self.slow = asyncio.Event()
        self.slow.set()

    @contextlib.asynccontextmanager
    async def connect(self, login: Login, *, timeout_s: float = 20.0) -> AsyncIterator[Session]:
        self.connecting += 1
        self.most = max(self.most, self.connecting)
        try:
            await self.slow.wait()
        finally:
            self.connecting -= 1
        if login.host in self.dead:
            raise NoAnswer(f"{login} is dead")
        line = self.lines[login.host] = Line()
        self.made += 1
        try:
            yield line
        finally:
            del self.lines[login.host]


class Set:
    """Tunnels to the hosts in `hosts`; `told` is what was said of them."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.hosts: dict[str, str] = {}
        self.told: list[tuple[str, str]] = []
        self.greeted: list[str] = []
        self.full = False  # whoever is told cannot write it down
        self.tunnels = Tunnels(
            self.exchange, "/agents.sock", self.wanted, self.tell, rng=random.Random(1), turn_s=0.0, pauses_s=(0.0, 0.0)
        )

    async def wanted(self) -> dict[str, Way]:
        async def greet(session: Session) -> None:
            self.greeted.append("hello")

        return {key: Way(Login(host), f"/{key}.sock", greet) for key, host in self.hosts.items()}

    async def tell(self, key: str, error: BootstrapError | None) -> None:
        if self.full:
            raise OSError("no space left")
        self.told.append((key, error.message if error else "up"))

    async def settle(self) -> None:
        await self.tunnels.turn()
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def some() -> AsyncIterator[Set]:
    made = Set()
    yield made
    made.hosts.clear()
    await made.settle()
    assert made.exchange.lines == {}


async def test_what_is_wanted_is_held_and_what_is_not_is_let_go(some: Set) -> None:
    some.hosts = {"i-1": "a", "i-2": "b"}
    await some.settle()
    assert some.exchange.lines["a"].joined == [("/i-1.sock", "/agents.sock")]
    assert (some.tunnels.up, len(some.greeted)) == ({"i-1", "i-2"}, 2)
    del some.hosts["i-1"]
    await some.settle()
    assert (set(some.exchange.lines), some.tunnels.up) == ({"b"}, {"i-2"})


async def test_a_line_that_breaks_is_made_again(some: Set) -> None:
    some.hosts = {"i-1": "a"}
    await some.settle()
    some.exchange.lines["a"].cut.set()
    await some.settle()
    assert (some.exchange.made, some.tunnels.up) == (2, {"i-1"})


async def test_a_host_that_does_not_answer_is_said_once_and_tried_on(some: Set) -> None:
    some.exchange.dead.add("a")
    some.hosts = {"i-1": "a"}
    for _ in range(3):
        await some.settle()
    assert some.told == [("i-1", "root@a is dead")]
    some.exchange.dead.clear()
    await some.settle()
    assert some.told[1:] == [("i-1", "up")]


async def test_whoever_cannot_be_told_keeps_no_tunnel_from_being_made(some: Set) -> None:
    some.full = True
    some.exchange.dead.add("a")
    some.hosts = {"i-1": "a"}
    await some.settle()
    some.full = False
    some.exchange.dead.clear()
    for _ in range(20):
        await some.settle()
    assert (set(some.exchange.lines), some.tunnels.up) == ({"a"}, {"i-1"})


async def test_a_machine_that_turns_out_to_be_elsewhere_is_looked_for_there(some: Set) -> None:
    some.exchange.slow.clear()
    some.hosts = {"i-1": "private"}
    await some.settle()
    some.hosts = {"i-1": "public"}
    await some.settle()
    some.exchange.slow.set()
    await some.settle()
    assert (set(some.exchange.lines), some.exchange.made) == ({"public"}, 1)


async def test_a_thousand_are_made_a_few_at_a_time(some: Set) -> None:
    some.exchange.slow.clear()
    some.hosts = {f"i-{n}": f"h{n}" for n in range(1000)}
    await some.settle()
    assert some.exchange.connecting == AT_ONCE
    some.exchange.slow.set()
    while len(some.tunnels.up) < 1000:
        await some.settle()
    assert some.exchange.most == AT_ONCE
