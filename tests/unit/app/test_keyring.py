"""What becomes of credentials that a command hands over: whose they are, how long they are used, what is said."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from provisioner.app.held import Held
from provisioner.app.keyring import Cloud, Keyring
from provisioner.domain.credentials import Credentials, Identity, Keys
from provisioner.domain.errors import Conflict, InvalidRequest, NotFound, Unauthorized
from provisioner.domain.job import NO_REASON, Instance, InstancePhase
from provisioner.domain.offer import Market, Offer
from provisioner.domain.policy import Policy
from provisioner.store.open import SqlStore, open_store

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI-not-to-be-seen"
ANN, BOB, CY = Identity("111", "user/ann"), Identity("111", "user/bob"), Identity("222", "user/cy")
OFFER = Offer("aws", "r", "r-1", "g1", Market.SPOT, Decimal("0.4"), "t", "r", 8, 32.0, 200.0)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOW).total_seconds()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def credentials(whose: str = "ann", lasts_s: float | None = None, **more: Any) -> Credentials:
    expires_at = None if lasts_s is None else NOW + timedelta(seconds=lasts_s)
    return Credentials({"id": whose, "secret": f"{SECRET}-{whose}"}, {}, expires_at, **more)


class Play:
    """A keyring over a real store and a cloud that knows three users. `made`: the keys of each provider that came."""

    def __init__(self, store: SqlStore, *, enabled: bool = False) -> None:
        self.store, self.clock = store, Clock()
        self.providers: dict[str, Any] = {}
        self.resumed: list[str] = []
        self.asked = 0
        self.made: list[Keys] = []
        cloud = Cloud(self._identify, self._make, ("id", "secret"), enabled, "training")
        clock: Any = self.clock
        self.keyring = Keyring({"aws": cloud}, self.providers, store, clock, Policy(), self.resumed.append)

    async def _identify(self, given: Credentials) -> Identity:
        self.asked += 1
        known = {"ann": ANN, "bob": BOB, "cy": CY}
        if given.keys["id"] not in known:
            raise Unauthorized("InvalidClientTokenId: who is that?")
        return known[given.keys["id"]]

    def _make(self, keys: Keys) -> Any:
        self.made.append(keys)
        return object()

    async def machine(self, phase: InstancePhase = InstancePhase.LAUNCHING) -> None:
        row = Instance("i-1", "runner-i-1", "me", InstancePhase.PLANNED, OFFER, NOW, NOW)
        cap = Decimal(100)
        row = await self.store.instances.plan(
            row, max_instances=9, max_usd_per_hour=cap, reserve_usd_per_hour=Decimal(0)
        )
        if phase is not InstancePhase.PLANNED:
            await self.store.instances.advance(row, phase, NO_REASON, NOW)


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    opened = await open_store("sqlite://", secret_key=b"k" * 32, inline=True)
    yield opened
    await opened.close()


@pytest.fixture
async def play(store: SqlStore) -> Play:
    made = Play(store)
    await made.keyring.open()
    return made


async def test_a_cloud_is_there_once_it_is_used_and_not_before(play: Play) -> None:
    assert (play.providers, play.keyring.paused) == ({}, {})
    taken = await play.keyring.take("aws", credentials())
    assert (taken.identity, taken.first, taken.notes) == (ANN, True, ())
    assert list(play.providers) == ["aws"]
    assert play.resumed == ["aws"]
    assert play.made[0].current().keys["id"] == "ann"


async def test_the_same_again_is_asked_of_nobody_and_news_to_nobody(play: Play) -> None:
    for _ in range(3):
        taken = await play.keyring.take("aws", credentials())
    assert (taken.first, play.asked, play.resumed) == (False, 1, ["aws"])


async def test_after_a_restart_it_is_paused_until_they_come_again(store: SqlStore) -> None:
    await Play(store).keyring.take("aws", credentials())
    again = Play(store)
    await again.keyring.open()
    assert again.keyring.paused == {
        "aws": "aws is paused: no credentials were handed over since the controller started, which keeps them in "
        "memory only; log in if need be, then `runner gc` hands them over"
    }
    with pytest.raises(Unauthorized, match="aws is paused"):
        again.made[0].current()
    taken = await again.keyring.take("aws", credentials())
    assert (taken.first, again.keyring.paused, again.resumed) == (False, {}, ["aws"])


async def test_machines_that_a_served_controller_launched_are_looked_after(store: SqlStore) -> None:
    play = Play(store)
    await play.machine()
    await play.keyring.open()
    assert list(play.keyring.paused) == ["aws"]


async def test_what_is_enabled_is_there_from_the_start(store: SqlStore) -> None:
    play = Play(store, enabled=True)
    await play.keyring.open()
    assert list(play.keyring.paused) == ["aws"]
    assert play.keyring.wanted()["aws"] == {
        "enabled": True,
        "profile": "training",
        "used": True,
        "launched_by": None,
        "in_use": None,
        "expires_at": None,
    }


async def test_the_ones_that_came_last_are_used_while_they_last(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann"))
    await play.keyring.take("aws", credentials("bob", 60))
    keys = play.made[0]
    assert keys.current().keys["id"] == "bob"
    play.clock.at += timedelta(seconds=61)
    assert keys.current().keys["id"] == "ann"


async def test_when_the_last_have_expired_it_is_paused(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann", 3600))
    play.clock.at += timedelta(seconds=3601)
    (why,) = play.keyring.paused.values()
    assert why.startswith("aws is paused: its credentials expired at 13:00:00 UTC; log in")


async def test_what_the_cloud_calls_expired_is_not_given_again(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann"))
    keys = play.made[0]
    keys.expired(keys.current())
    assert "have expired" in play.keyring.paused["aws"]
    assert (await play.keyring.take("aws", credentials("ann", 3600))).identity == ANN
    assert play.keyring.paused == {}


async def test_another_accounts_are_refused_while_there_are_machines(play: Play) -> None:
    """With them every machine would look as if it were gone."""
    await play.keyring.take("aws", credentials("ann"))
    await play.machine()
    with pytest.raises(
        Conflict, match=r"\(1 now\) are of user/ann \(account 111\), and these credentials are of user/cy"
    ):
        await play.keyring.take("aws", credentials("cy"))
    assert play.made[0].current().keys["id"] == "ann"


async def test_another_identity_of_the_account_is_taken_and_told_so(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann"))
    await play.machine()
    for _ in range(2):
        taken = await play.keyring.take("aws", credentials("bob"))
        assert taken.notes == ("these are credentials of user/bob (account 111); the aws machines are of user/ann",)
    assert play.keyring.wanted()["aws"]["launched_by"] == {"account": "111", "name": "user/ann"}
    assert play.keyring.wanted()["aws"]["in_use"] == {"account": "111", "name": "user/bob"}


async def test_without_machines_another_account_takes_over_if_a_job_asks_for_it(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann"))
    await play.machine(InstancePhase.PLANNED)
    with pytest.raises(Conflict, match="these credentials are of user/cy"):
        await play.keyring.take("aws", credentials("cy"), same=True)
    assert (await play.keyring.take("aws", credentials("cy"))).first
    assert play.made[0].current().keys["id"] == "cy"
    play.made[0].expired(play.made[0].current())
    assert list(play.keyring.paused) == ["aws"], "the other account's were forgotten"


@pytest.mark.parametrize(
    ("provider", "given", "refusal", "said"),
    [
        ("gcp", credentials(), NotFound, "no cloud 'gcp'"),
        ("aws", Credentials({"id": "ann"}), InvalidRequest, "credentials of aws lack secret"),
        ("aws", credentials(lasts_s=-1), Conflict, "have expired; nothing was kept"),
        (
            "aws",
            credentials("eve"),
            Conflict,
            "aws was not opened: InvalidClientTokenId: who is that?; nothing was kept",
        ),
    ],
)
async def test_what_opens_nothing_is_refused(
    play: Play, provider: str, given: Credentials, refusal: type[Exception], said: str
) -> None:
    with pytest.raises(refusal, match=said.replace("?", r"\?")):
        await play.keyring.take(provider, given)
    assert play.providers == {}


@pytest.mark.parametrize(
    ("lasts_s", "lifetime_s", "said"),
    [
        (None, 43200, None),
        (3600, 3000, None),
        (
            3600,
            3001,
            ("the credentials of aws end at 13:00 UTC, its machine would after 50 min", "add --max-lifetime 48m"),
        ),
        (
            3600,
            43200,
            ("the credentials of aws end at 13:00 UTC, its machine would after 12 h", "add --max-lifetime 48m"),
        ),
        (
            700,
            43200,
            ("the credentials of aws end at 12:11 UTC, its machine would after 12 h", "log in for longer ones"),
        ),
    ],
)
async def test_a_machine_that_would_outlive_them(
    play: Play, lasts_s: float | None, lifetime_s: float, said: tuple[str, str] | None
) -> None:
    """At its end it may still deliver for `drain_s`, ten minutes."""
    await play.keyring.take("aws", credentials("ann", lasts_s))
    found = play.keyring.too_short("aws", lifetime_s)
    assert (found and (found[0], found[1][: len(said[1])] if said else "")) == said
    assert play.keyring.too_short("local", 1e12) is None


async def test_temporary_ones_without_an_end_are_said_to_be(play: Play) -> None:
    taken = await play.keyring.take("aws", credentials(temporary=True))
    assert taken.notes == (
        "of the credentials of aws: they are temporary and do not say until when; when they end, "
        "the provider is paused",
    )


async def test_a_pause_and_its_end_are_events(play: Play) -> None:
    await play.keyring.take("aws", credentials("ann", 3600))
    for at in (3600, 3600, 3601):
        play.clock.at = NOW + timedelta(seconds=at)
        await play.keyring.look()
    await play.keyring.take("aws", credentials("ann"))
    await play.keyring.look()
    events = await play.store.records.events()
    assert [one.what for one in events] == ["provider.paused", "provider.resumed"]
    assert events[0].message.startswith("aws is paused: its credentials expired at 13:00:00 UTC")
    assert events[1].data == {"provider": "aws"}


async def test_nothing_of_them_is_shown_or_kept(play: Play) -> None:
    given = credentials("ann", 3600)
    taken = await play.keyring.take("aws", given)
    held: Held = play.keyring._held["aws"]
    shown = [repr(given), str(given), f"{given}", repr(taken), repr(held), repr(play.keyring), repr(vars(held))]
    shown += [json.dumps(play.keyring.wanted()), *play.keyring.paused.values()]
    shown += [str(await play.store.records.meta("identity.aws"))]
    assert not [text for text in shown if SECRET in text]


def test_keys_may_be_asked_for_from_many_threads_while_others_come() -> None:
    from concurrent.futures import ThreadPoolExecutor

    clock: Any = Clock()
    held = Held("aws", clock)
    held.hold(ANN, credentials())
    rng = random.Random(5)

    def one(n: int) -> None:
        if n % 3:
            assert held.current().keys["id"] in ("ann", "bob")
        else:
            held.hold(rng.choice((ANN, BOB)), credentials(rng.choice(("ann", "bob"))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(3000)))
