"""One test a law of the Store port. Both databases inherit all of them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from provisioner.domain.errors import (
    Conflict,
    Forbidden,
    IllegalTransition,
    InvalidRequest,
    NotFound,
    OverBudget,
    StaleWrite,
)
from provisioner.domain.hosts import Host, MachineKey
from provisioner.domain.job import (
    Attempt,
    AttemptPhase,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    JobSpec,
    Outcome,
    Reason,
    Why,
)
from provisioner.domain.money import total
from provisioner.domain.offer import Market, Offer
from provisioner.domain.place import Refusal
from provisioner.domain.store import Event, ManifestRow, Store, TokenRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAPS = {"max_instances": 8, "max_usd_per_hour": Decimal(10), "reserve_usd_per_hour": Decimal(1)}


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def offer(usd: str | None = "1") -> Offer:
    price = None if usd is None else Decimal(usd)
    return Offer("sim", "r", "z", "t", Market.SPOT, price, "table", "r", 4, 16.0, 100.0)


def job(key: str, owner: str = "ann", at: float = 0, **spec: object) -> Job:
    return Job(key, owner, JobSpec(run=("true",), **spec), JobPhase.QUEUED, later(at))  # type: ignore[arg-type]


def instance(key: str, planned_for: str = "", usd: str | None = "1") -> Instance:
    return Instance(key, f"runner-{key}", "ann", InstancePhase.PLANNED, offer(usd), NOW, NOW, planned_for=planned_for)


async def planned(store: Store, key: str, planned_for: str = "") -> Instance:
    return await store.instances.plan(instance(key, planned_for), **CAPS)  # type: ignore[arg-type]


async def moved(store: Store, one: Instance, *phases: InstancePhase, at: float = 1) -> Instance:
    for step, phase in enumerate(phases):
        one = await store.instances.advance(one, phase, Reason(), later(at + step))
    return one


async def ready(store: Store, key: str) -> Instance:
    one = await planned(store, key)
    return await moved(store, one, InstancePhase.LAUNCHING, InstancePhase.BOOTING, InstancePhase.READY)


async def running(store: Store, key: str) -> tuple[Attempt, Instance]:
    one = await ready(store, f"i-{key}")
    queued = await store.jobs.submit(job(f"j-{key}"))
    return await store.jobs.assign(queued, one, later(5)), one


class StoreLaws:
    """Subclasses give a fresh `store`."""

    async def test_s1_submitting_the_same_id_again_changes_nothing(self, store: Store) -> None:
        first = await store.jobs.submit(job("j-1", name="one"))
        again = await store.jobs.submit(job("j-1", owner="bob", name="two"))
        assert again == first
        assert [event.what for event in await store.records.events(job_id="j-1")] == ["job.queued"]

    async def test_a_row_comes_back_as_it_went(self, store: Store) -> None:
        sent = job("j-1", name="n", env={"A": "ü"}, outputs=("a/**",), timeout_s=1.5)
        await store.jobs.submit(sent)
        assert await store.jobs.get("j-1") == sent
        one = await planned(store, "i-1", "j-1")
        assert await store.instances.get("i-1") == one
        assert await store.instances.get("runner-i-1") == one

    async def test_a_job_is_found_by_prefix_or_newest_name(self, store: Store) -> None:
        await store.jobs.submit(job("j-aa1", name="train"))
        await store.jobs.submit(job("j-ab2", name="train", at=1))
        assert (await store.jobs.get("j-aa")).id == "j-aa1"
        assert (await store.jobs.get("train")).id == "j-ab2"
        with pytest.raises(InvalidRequest):
            await store.jobs.get("j-a")
        with pytest.raises(NotFound):
            await store.jobs.get("j-x")
        with pytest.raises(NotFound):
            await store.jobs.get("%")

    async def test_s2_a_stale_row_writes_nothing(self, store: Store) -> None:
        one = await planned(store, "i-1")
        await moved(store, one, InstancePhase.LAUNCHING)
        with pytest.raises(StaleWrite):
            await store.instances.advance(one, InstancePhase.GONE, Reason(), later(2))
        with pytest.raises(StaleWrite):
            await store.instances.update(one, ref="x")
        assert (await store.instances.get("i-1")).phase is InstancePhase.LAUNCHING

    async def test_s3_phases_move_only_along_the_table(self, store: Store) -> None:
        one = await planned(store, "i-1")
        with pytest.raises(IllegalTransition):
            await store.instances.advance(one, InstancePhase.READY, Reason(), NOW)
        assert await store.instances.get("i-1") == one

    async def test_s3_each_move_writes_an_event_and_its_charge(self, store: Store) -> None:
        attempt, one = await running(store, "1")
        attempt = await store.jobs.started(attempt, later(6))
        await store.jobs.end(attempt, Reason(Why.EXIT), later(10), exit_code=0, outcome=Outcome.SUCCEEDED)
        one = await store.instances.get(one.id)
        await moved(store, one, InstancePhase.DRAINING, InstancePhase.STOPPING, InstancePhase.GONE, at=20)
        charges = await store.records.charges(instance_id=one.id)
        assert [charge.phase for charge in charges] == [
            *("boot", "bootstrap", "wait_job", "setup", "compute", "warm_idle", "drain", "drain")
        ]
        assert all(a.closed_at == b.opened_at for a, b in itertools.pairwise(charges))
        assert charges[-1].closed_at == later(22)
        usd, unknown = total(charges, later(99))  # 21 seconds at $1/h, each line kept to ten places
        assert (round(usd, 8), unknown) == (Decimal("0.00583333"), False)
        assert [charge.phase for charge in await store.records.charges(job_id="j-1")] == ["setup", "compute"]
        whats = [event.what for event in await store.records.events(instance_id=one.id)]
        assert whats[:4] == ["instance.planned", "instance.launching", "instance.booting", "instance.ready"]

    async def test_s3_what_was_never_launched_costs_nothing(self, store: Store) -> None:
        await moved(store, await planned(store, "i-1"), InstancePhase.GONE)
        assert await store.records.charges(instance_id="i-1") == []

    async def test_s4_never_two_live_attempts(self, store: Store) -> None:
        _, one = await running(store, "1")
        other = await store.jobs.submit(job("j-2"))
        with pytest.raises(StaleWrite):
            await store.jobs.assign(other, await store.instances.get(one.id), later(6))
        assert (await store.jobs.get("j-2")).phase is JobPhase.QUEUED

    async def test_s4_of_many_who_assign_at_once_one_wins(self, store: Store) -> None:
        one = await ready(store, "i-1")
        queued = [await store.jobs.submit(job(f"j-{n}")) for n in range(10)]
        tries = await asyncio.gather(*(store.jobs.assign(q, one, NOW) for q in queued), return_exceptions=True)
        assert sum(isinstance(result, Attempt) for result in tries) == 1
        assert len(await store.jobs.live_attempts()) == 1

    async def test_ending_an_attempt_decides_its_job_once(self, store: Store) -> None:
        attempt, _ = await running(store, "1")
        requeued = await store.jobs.end(attempt, Reason(Why.LOST, "gone"), later(7), counts=False)
        assert (requeued.phase, requeued.failures, requeued.attempts) == (JobPhase.QUEUED, 0, 1)
        again = await store.jobs.end(attempt, Reason(Why.EXIT), later(8), outcome=Outcome.SUCCEEDED)
        assert again.phase is JobPhase.QUEUED
        ended = await store.jobs.attempt("j-1", 1)
        assert (ended.phase, ended.reason) == (AttemptPhase.ENDED, Reason(Why.LOST, "gone"))

    async def test_s5_the_queue_is_fair(self, store: Store) -> None:
        for n, (key, owner) in enumerate([("j-a1", "ann"), ("j-a2", "ann"), ("j-a3", "ann"), ("j-b1", "bob")]):
            await store.jobs.submit(job(key, owner, at=n))
        assert [one.id for one in await store.jobs.waiting()] == ["j-a1", "j-b1", "j-a2", "j-a3"]

    async def test_s6_the_caps_hold_however_many_plan_at_once(self, store: Store) -> None:
        plans = [store.instances.plan(instance(f"i-{n}"), **CAPS) for n in range(20)]  # type: ignore[arg-type]
        results = await asyncio.gather(*plans, return_exceptions=True)
        assert sum(isinstance(result, Instance) for result in results) == 8
        assert {type(result) for result in results} == {Instance, OverBudget}

    async def test_s6_money_is_a_cap_too(self, store: Store) -> None:
        caps = {**CAPS, "reserve_usd_per_hour": Decimal(6)}
        one = await store.instances.plan(instance("i-1"), **caps)  # type: ignore[arg-type]
        with pytest.raises(OverBudget, match=r"\$6\.00/h is reserved"):
            await store.instances.plan(instance("i-2"), **caps)  # type: ignore[arg-type]
        await moved(store, one, InstancePhase.GONE)
        await store.instances.plan(instance("i-2"), **caps)  # type: ignore[arg-type]

    async def test_s6_what_was_reserved_is_kept_with_the_row(self, store: Store) -> None:
        one = await store.instances.plan(instance("i-1"), **CAPS)  # type: ignore[arg-type]
        assert one.reserved_usd_per_hour == CAPS["reserve_usd_per_hour"]
        assert await store.instances.get("i-1") == one

    async def test_s7_never_two_instances_for_one_job(self, store: Store) -> None:
        one = await planned(store, "i-1", "j-1")
        with pytest.raises(Conflict):
            await planned(store, "i-2", "j-1")
        await moved(store, one, InstancePhase.GONE)
        await planned(store, "i-2", "j-1")

    async def test_s8_a_claim_lasts_as_long_as_its_lease(self, store: Store) -> None:
        one = await planned(store, "i-1")
        now = datetime.now(UTC)
        (claim,) = await store.instances.claim("a", now, limit=10, lease_s=0.3)
        assert await store.instances.claim("b", now, limit=10, lease_s=30) == []
        await asyncio.sleep(0.4)
        (again,) = await store.instances.claim("b", datetime.now(UTC), limit=10, lease_s=30)
        assert again.fence > claim.fence
        with pytest.raises(StaleWrite):
            await store.instances.update(one, fence=claim.fence, ref="late")
        await store.instances.settle({"i-1": (claim.fence, now)})
        assert await store.instances.claim("c", datetime.now(UTC), limit=10, lease_s=30) == []

    async def test_s8_a_lease_is_renewed_by_whoever_has_it(self, store: Store) -> None:
        await planned(store, "i-1")
        now = datetime.now(UTC)
        (claim,) = await store.instances.claim("a", now, limit=10, lease_s=0.3)
        await store.instances.renew({"i-1": claim.fence, "i-none": 1}, now, lease_s=30)
        await asyncio.sleep(0.4)
        assert await store.instances.claim("b", datetime.now(UTC), limit=10, lease_s=0.1) == []
        await store.instances.renew({"i-1": claim.fence}, datetime.now(UTC), lease_s=0)
        (taken,) = await store.instances.claim("b", datetime.now(UTC), limit=10, lease_s=0.1)
        await store.instances.renew({"i-1": claim.fence}, datetime.now(UTC), lease_s=30)
        await asyncio.sleep(0.2)
        (again,) = await store.instances.claim("c", datetime.now(UTC), limit=10, lease_s=30)
        assert again.fence > taken.fence

    async def test_s8_two_holders_share_the_work(self, store: Store) -> None:
        for n in range(8):
            await planned(store, f"i-{n}")
        now = datetime.now(UTC)
        claims = await asyncio.gather(*(store.instances.claim(h, now, limit=3, lease_s=30) for h in "abcd"))
        ids = [claim.instance.id for some in claims for claim in some]
        assert len(ids) == len(set(ids)) == 8

    async def test_what_is_not_due_is_claimed_only_by_name(self, store: Store) -> None:
        await planned(store, "i-1")
        now = datetime.now(UTC)
        (claim,) = await store.instances.claim("a", now, limit=10, lease_s=30)
        await store.instances.settle({"i-1": (claim.fence, now + timedelta(hours=1))})
        assert await store.instances.claim("a", now, limit=10, lease_s=30) == []
        assert len(await store.instances.claim("a", now, limit=10, lease_s=30, only={"i-1"})) == 1
        due = await store.instances.due()
        assert due is not None
        assert abs((due - now - timedelta(hours=1)).total_seconds()) < 0.001

    async def test_s9_secrets_are_sealed_and_a_jobs_own_come_first(self, store: Store) -> None:
        await store.records.put_secret("ann", "TOKEN", "of the owner")
        await store.records.put_secret("ann", "TOKEN", "of the job", job_id="j-1")
        await store.records.put_secret("bob", "TOKEN", "of another")
        assert await store.records.secrets("ann", ["TOKEN", "NONE"]) == {"TOKEN": "of the owner"}
        assert await store.records.secrets("ann", ["TOKEN"], job_id="j-1") == {"TOKEN": "of the job"}
        ((name, fingerprint, _),) = await store.records.secret_names("ann")
        assert (name, len(fingerprint)) == ("TOKEN", 12)
        await store.records.drop_secret("ann", "TOKEN")
        assert await store.records.secrets("ann", ["TOKEN"]) == {}

    async def test_s9_a_new_key_opens_what_the_old_one_sealed(self, store: Store) -> None:
        await store.records.put_secret("ann", "TOKEN", "of the owner")
        assert await store.records.rekey(b"n" * 32) == 1
        assert await store.records.secrets("ann", ["TOKEN"]) == {"TOKEN": "of the owner"}

    async def test_s10_a_join_token_serves_one_nonce_for_ever(self, store: Store) -> None:
        await store.records.expect_join("i-1", "token", later(60))
        await store.records.join("i-1", "token", "nonce", "session", later(1))
        await store.records.join("i-1", "token", "nonce", "session", later(1000))
        assert await store.records.session("session") == "i-1"
        with pytest.raises(Forbidden):
            await store.records.join("i-1", "token", "other", "thief", later(2))
        assert await store.records.session("thief") is None
        assert "instance.join_refused" in {event.what for event in await store.records.events(instance_id="i-1")}

    async def test_s10_an_expired_or_unknown_join_token_is_refused(self, store: Store) -> None:
        await store.records.expect_join("i-1", "token", later(60))
        for token, at in (("token", 61.0), ("guess", 1.0)):
            with pytest.raises(Forbidden):
                await store.records.join("i-1", token, "nonce", "session", later(at))

    async def test_s10_the_end_of_an_unused_join_token_is_only_put_off(self, store: Store) -> None:
        for ends in (60, 600, 30):
            await store.records.expect_join("i-1", "token", later(ends))
        await store.records.join("i-1", "token", "nonce", "session", later(599))
        await store.records.expect_join("i-1", "token", later(6000))
        with pytest.raises(Forbidden):
            await store.records.join("i-1", "token", "other", "thief", later(601))
        await store.records.expect_join("i-2", "token-2", later(60))
        with pytest.raises(Forbidden):
            await store.records.join("i-2", "token-2", "nonce", "session-2", later(61))

    async def test_cancelling_is_asked_once_and_may_become_urgent(self, store: Store) -> None:
        await store.jobs.submit(job("j-1"))
        first = await store.jobs.ask_cancel("j-1", later(1))
        second = await store.jobs.ask_cancel("j-1", later(2), now=True)
        assert (first.cancel_now, second.cancel_now, second.cancel_asked_at) == (False, True, later(1))

    async def test_manifests_only_of_the_newest_attempt_and_never_backwards(self, store: Store) -> None:
        await running(store, "1")
        row = ManifestRow("j-1", 1, "results", 2, False, NOW, {"files": []})
        assert await store.records.put_manifest(row)
        assert not await store.records.put_manifest(dataclasses.replace(row, sequence=1))
        assert await store.records.put_manifest(dataclasses.replace(row, sequence=3, final=True))
        assert not await store.records.put_manifest(dataclasses.replace(row, sequence=4))
        with pytest.raises(StaleWrite):
            await store.records.put_manifest(dataclasses.replace(row, number=2))
        (kept,) = await store.records.manifests("j-1", "results")
        assert (kept.sequence, kept.final) == (3, True)

    async def test_events_are_numbered_in_order(self, store: Store) -> None:
        events = [await store.records.record(Event("x.happened", later(n), data={"n": n})) for n in range(5)]
        read = await store.records.events(after=events[1].id)
        assert [event.data["n"] for event in read] == [2, 3, 4]

    async def test_refusals_are_remembered_and_replaced(self, store: Store) -> None:
        await store.records.refuse(Refusal("z/t", later(60), "full"))
        await store.records.refuse(Refusal("z/t", later(120), "full again", 2))
        assert await store.records.refusals(NOW) == [Refusal("z/t", later(120), "full again", 2)]

    async def test_tokens_are_known_by_hash_until_they_expire(self, store: Store) -> None:
        await store.records.add_token(TokenRow("t-1", "me", "user", NOW, later(60)), "hash")
        found = await store.records.token("hash", later(1))
        assert found is not None
        assert found.role == "user"
        assert await store.records.token("hash", later(61)) is None
        assert await store.records.token("guess", later(1)) is None
        await store.records.drop_token("t-1")
        assert await store.records.tokens() == []

    async def test_readings_and_pruning(self, store: Store) -> None:
        await store.records.add_readings("j-1", 1, "i-1", [(later(0), {"cpu": 0.5}), (later(100), {"cpu": 1.0})])
        await store.records.record(Event("x.happened", later(0)))
        assert await store.records.prune(events_before=later(50), readings_before=later(50)) == 2
        assert await store.records.readings("j-1", 1) == [(later(100), {"cpu": 1.0})]

    async def test_a_job_is_deleted_with_all_but_its_charges(self, store: Store) -> None:
        attempt, _ = await running(store, "1")
        with pytest.raises(Conflict):
            await store.jobs.delete("j-1")
        await store.jobs.end(attempt, Reason(), later(9), exit_code=0, outcome=Outcome.SUCCEEDED)
        await store.records.put_secret("ann", "S", "value1", job_id="j-1")
        await store.jobs.delete("j-1")
        with pytest.raises(NotFound):
            await store.jobs.get("j-1")
        assert await store.records.secrets("ann", ["S"], job_id="j-1") == {}
        assert await store.records.charges(job_id="j-1") != []

    async def test_the_controller_has_one_id(self, store: Store) -> None:
        assert await store.records.controller_id() == await store.records.controller_id()
        assert await store.records.set_meta("k", "first", only_new=True) == "first"
        assert await store.records.set_meta("k", "second", only_new=True) == "first"
        assert await store.records.set_meta("k", "third") == "third"

    async def test_hosts_are_kept_by_name(self, store: Store) -> None:
        box = Host(
            "box", "10.0.0.7", user="ann", host_keys=("ssh-ed25519 AAAA",), slots=2, usd_per_hour=Decimal("0.25")
        )
        await store.hosts.put(Host("attic", "attic.lan"))
        await store.hosts.put(dataclasses.replace(box, slots=1))
        await store.hosts.put(box)
        assert await store.hosts.all() == [Host("attic", "attic.lan"), box]
        await store.hosts.drop("attic")
        assert await store.hosts.all() == [box]
        with pytest.raises(NotFound):
            await store.hosts.drop("attic")

    async def test_k2_a_host_is_known_or_given_up_whichever_was_said_last(self, store: Store) -> None:
        attic, box = Host("attic", "attic.lan"), Host("box", "10.0.0.7")
        for host in (attic, box):
            await store.hosts.put(host)
        await store.hosts.give_up("attic", "ann")
        await store.hosts.give_up("never-added", "bob")
        assert await store.hosts.all() == [box]
        assert await store.hosts.given_up() == {"attic": "ann", "never-added": "bob"}
        await store.hosts.put(attic)
        assert await store.hosts.all() == [attic, box]
        assert await store.hosts.given_up() == {"never-added": "bob"}
        with pytest.raises(NotFound):
            await store.hosts.drop("never-added")

    async def test_k1_a_settled_key_of_a_machine_is_never_replaced(self, store: Store) -> None:
        await planned(store, "1")
        assert await store.hosts.machine_keys() == {}
        for key in (MachineKey(), MachineKey("one"), MachineKey("two"), MachineKey("two", settled=True)):
            await store.hosts.keep_machine_key("1", key)
            assert await store.hosts.machine_keys() == {"1": key}
        await store.hosts.keep_machine_key("1", MachineKey("two"))
        with pytest.raises(Conflict):
            await store.hosts.keep_machine_key("1", MachineKey("three"))
        assert await store.hosts.machine_keys() == {"1": MachineKey("two", settled=True)}
