"""The `hosts` provider keeps the laws on a computer behind a real OpenSSH server, and what only it promises."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from agent.wire import AgentConfig, encode
from provisioner.app.clock import SystemClock
from provisioner.bootstrap.bundle import agent_bundle
from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.errors import InvalidRequest, NoCapacity, Unreachable
from provisioner.domain.hosts import Host
from provisioner.domain.job import Instance, InstancePhase, Need, Reason, Why
from provisioner.domain.offer import Machine, MachineState
from provisioner.domain.policy import Policy
from provisioner.providers.hosts import HostsProvider
from tests.fakes import sshd
from tests.fakes.alone import with_names
from tests.fakes.an_engine import an_engine
from tests.fakes.simstore import SimStore

from .console_laws import ConsoleLaws
from .provider_laws import ProviderLaws, ProviderWorld, listed, order

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "it is there")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a user a slot needs root")


@dataclasses.dataclass
class Place:
    """One computer. `folder` is where its machines are."""

    server: sshd.Server
    folder: Path
    hosts: list[Host]
    given_up: dict[str, str] = dataclasses.field(default_factory=dict)

    def below(self, name: str) -> Path:
        return self.folder / "gpu-runner/machines" / name


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with with_names():
        yield


@pytest.fixture
def there(alone: None, tmp_path: Path) -> Iterator[Place]:
    root = os.geteuid() == 0
    # What was ended on it a moment ago may still write as its folder is removed.
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with sshd.serving(tmp_path / "sshd", own_users=root) as server, folder as name:
        Path(name).chmod(0o711)
        box = Host("box", "127.0.0.1", server.port, server.user, (server.host_key,), gpu="none", folder=name)
        yield Place(server, Path(name), [box])


@pytest.fixture
async def provider(there: Place, tmp_path: Path) -> AsyncIterator[HostsProvider]:
    async def hosts() -> list[Host]:
        return there.hosts

    async def given_up() -> dict[str, str]:
        return there.given_up

    async def key() -> str:
        return there.server.key

    made = HostsProvider(
        OpenSsh(),
        hosts,
        given_up,
        key,
        "c-1",
        lambda: agent_bundle(tmp_path / "cache"),
        orphan_s=60.0,
        clock=lambda: 0.0,
    )
    yield made
    for listing in await made.machines():
        for machine in listing.machines:
            await made.terminate("", machine.name, machine.scope)
    await made.close()


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


@pytest.fixture
def world(tmp_path: Path) -> ProviderWorld:
    def config(name: str) -> str:
        key = name.removeprefix("runner-")
        return encode(AgentConfig(key, name, ["unix:/nobody.sock"], "jt_x", "exit", "hosts")).decode()

    return ProviderWorld("c-1", asyncio.sleep, config)


def processes(folder: Path) -> list[int]:
    """Of the machine that lives there, its respawn loop first."""
    found = subprocess.run(["pgrep", "-f", f"{folder}/"], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def kill(folder: Path) -> None:
    """All of them, and what one of them started meanwhile."""
    while found := processes(folder):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def cut(server: sshd.Server) -> None:
    """Every connection that it has, and not itself."""
    for child in psutil.Process(server.process.pid).children(recursive=True):
        child.kill()


def left_behind(uid: int) -> subprocess.Popen[bytes]:
    """A process of that user that no mark or parent tells of."""
    return subprocess.Popen(["sleep", "600"], user=uid, cwd="/", env={})


class TestHosts(ProviderLaws, ConsoleLaws):
    @pytest.fixture
    def prints(self, there: Place) -> Callable[[Machine, str], None]:
        def write(machine: Machine, text: str) -> None:
            stopped: set[int] = set()
            while begun := set(processes(there.below(machine.name))) - stopped:  # it must not have the last word itself
                for pid in begun:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                stopped |= begun
            with (there.below(machine.name) / "console.log").open("a") as console:
                console.write(text)

        return write

    async def test_a2_of_a_host_that_does_not_answer_nothing_is_made_up(
        self, provider: HostsProvider, there: Place
    ) -> None:
        there.hosts.append(dataclasses.replace(there.hosts[0], name="dead", port=1))
        with pytest.raises(Unreachable):
            await provider.console("", "runner-i-1", "hosts:dead")

    async def test_a_host_is_one_offer_and_its_slots_are_counted(
        self, provider: HostsProvider, world: ProviderWorld, there: Place
    ) -> None:
        (free,) = await provider.offers(Need())
        assert (free.scope, free.taken, free.usd_per_hour) == ("hosts:box", "", Decimal(0))
        one = await order(provider, world, "runner-i-one")
        await provider.launch(one)
        (full,) = await provider.offers(Need())
        assert full.taken == "its slot is taken"
        with pytest.raises(NoCapacity):
            await provider.launch(dataclasses.replace(one, name="runner-i-two"))
        await provider.terminate("", "runner-i-one", "hosts:box")
        (free,) = await provider.offers(Need())
        assert free.taken == ""

    async def test_a_host_comes_back_clean(self, provider: HostsProvider, world: ProviderWorld, there: Place) -> None:
        await provider.launch(await order(provider, world, "runner-i-1"))
        assert there.below("runner-i-1").exists()
        assert processes(there.below("runner-i-1"))
        await provider.terminate("", "runner-i-1", "hosts:box")
        assert not there.below("runner-i-1").exists()
        assert processes(there.below("runner-i-1")) == []
        assert list(there.folder.glob("gpu-runner/agent-*")) == []

    async def test_a_slot_is_taken_until_its_machine_was_ended_alive_or_not(
        self, provider: HostsProvider, world: ProviderWorld, there: Place
    ) -> None:
        """Its end would take the next one's processes with it."""
        await provider.launch(await order(provider, world, "runner-i-1"))
        kill(there.below("runner-i-1"))
        assert [machine.state for machine in await listed(provider, "runner-i-1")] == [MachineState.STOPPED]
        assert [offer.taken for offer in await provider.offers(Need())] == ["its slot is taken"]
        with pytest.raises(NoCapacity):
            await provider.launch(await order(provider, world, "runner-i-2"))
        await provider.terminate("", "runner-i-1", "hosts:box")
        assert [offer.taken for offer in await provider.offers(Need())] == [""]

    async def test_a_host_that_drops_off_is_unreachable_not_free(
        self, provider: HostsProvider, world: ProviderWorld, there: Place
    ) -> None:
        machine = await provider.launch(await order(provider, world, "runner-i-1"))
        there.hosts.append(dataclasses.replace(there.hosts[0], name="dead", port=1))
        first, second = sorted(await provider.machines(), key=lambda one: one.scope)
        assert (first.scope, [one.name for one in first.machines]) == ("hosts:box", [machine.name])
        assert (second.scope, second.machines) == ("hosts:dead", ())
        assert second.error is not None
        assert [offer.zone for offer in await provider.offers(Need())] == ["box"]
        with pytest.raises(Unreachable):
            await provider.terminate("", "runner-i-2", "hosts:dead")
        del there.hosts[0]
        with pytest.raises(Unreachable):
            await provider.offers(Need())

    @pytest.mark.parametrize("dead", [False, True])
    async def test_a_host_that_was_given_up_and_comes_back_leaks_no_machine(
        self, store: SimStore, provider: HostsProvider, world: ProviderWorld, there: Place, dead: bool
    ) -> None:
        """Whether the machine lives on there or has left by its own limits: its row is gone, and it is collected."""
        store.empty(1)
        order_ = await order(provider, world, "runner-i-1")
        await provider.launch(order_)
        now = datetime.now(UTC)
        row = Instance("i-1", "runner-i-1", "ann", InstancePhase.PLANNED, order_.offer, now, now)
        free = Decimal(0)
        row = await store.port.instances.plan(row, max_instances=1, max_usd_per_hour=free, reserve_usd_per_hour=free)
        engine = an_engine(
            store.port, SystemClock(), {"hosts": provider}, policy=dataclasses.replace(Policy(), collect_min_age_s=0.0)
        )
        back = there.hosts.pop()
        there.given_up["box"] = "ann"
        (listing,) = await provider.machines()
        assert (listing.scope, listing.complete, listing.machines) == ("hosts:box", True, ())
        assert listing.given_up.startswith("ann has given box up")
        await engine.observed.refresh_fully()
        await engine.run_pass()
        closed = await store.port.instances.get("i-1")
        assert (closed.phase, closed.reason) == (InstancePhase.GONE, Reason(Why.GIVEN_UP, listing.given_up))
        if dead:
            kill(there.below("runner-i-1"))
        there.hosts.append(back)
        assert (await engine.collect_now())["ended"] == ["runner-i-1"]
        assert not there.below("runner-i-1").exists()
        assert processes(there.below("runner-i-1")) == []
        assert [offer.taken for offer in await provider.offers(Need())] == [""]

    async def test_a_host_that_says_nothing_holds_up_nobody(self, provider: HostsProvider, there: Place) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            there.hosts.append(dataclasses.replace(there.hosts[0], name="mute", port=mute.getsockname()[1]))
            async with asyncio.timeout(10):  # well below the time in which a connection is given up
                assert [offer.zone for offer in await provider.offers(Need())] == ["box"]
            there.hosts.pop()

    async def test_a_connection_that_was_cut_is_made_again(
        self, provider: HostsProvider, world: ProviderWorld, there: Place, tmp_path: Path
    ) -> None:
        await provider.launch(await order(provider, world, "runner-i-1"))
        cut(there.server)
        assert len(await listed(provider, "runner-i-1")) == 1

    async def test_what_is_said_of_a_host_is_checked(self, provider: HostsProvider, there: Place) -> None:
        box = there.hosts[0]
        for wrong in ({"gpu": "T4:3", "slots": 2}, {"gpu": "Quux"}):
            with pytest.raises(InvalidRequest):
                await provider.examined(dataclasses.replace(box, **wrong))
        assert (await provider.examined(dataclasses.replace(box, gpu="T4:2")))["cpus"] == os.cpu_count()

    @AS_ROOT
    async def test_each_slot_has_a_user_of_its_own_and_its_share_of_the_gpus(
        self, provider: HostsProvider, world: ProviderWorld, there: Place
    ) -> None:
        there.hosts[0] = dataclasses.replace(there.hosts[0], gpu="T4:4", slots=2)
        (offer,) = await provider.offers(Need())
        assert (offer.gpu and offer.gpu.count, offer.cpus) == (2, max(1, (os.cpu_count() or 1) // 2))
        for name in ("runner-i-1", "runner-i-2"):
            await provider.launch(await order(provider, world, name))
        told = [json.loads((there.below(f"runner-i-{n}") / "machine.json").read_text()) for n in (1, 2)]
        assert [(one["slot"], one["user"]) for one in told] == [(0, "gpu-runner-0"), (1, "gpu-runner-1")]
        owners, shares = [], set()
        for name in ("runner-i-1", "runner-i-2"):
            (loop, *_) = processes(there.below(name))
            process = psutil.Process(loop)
            owners.append(process.uids().real)
            shares.add(process.environ()["CUDA_VISIBLE_DEVICES"])
            assert (there.below(name) / "state").stat().st_mode & 0o077 == 0
            assert (there.below(name).stat().st_uid, (there.below(name) / "machine.json").stat().st_uid) == (0, 0)
        assert (len(set(owners)), 0 in owners) == (2, False)
        assert shares == {"0,1", "2,3"}
        left = left_behind(owners[0])
        await provider.terminate("", "runner-i-1", "hosts:box")
        assert left.wait(10) == -9
        assert not (there.folder / "gpu-runner/homes/0").exists()
        assert (there.folder / "gpu-runner/homes/1").exists()
