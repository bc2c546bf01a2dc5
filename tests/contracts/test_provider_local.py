"""The local provider keeps the laws with real processes, and what only it promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from agent.wire import AgentConfig, encode
from provisioner.bootstrap.bundle import agent_bundle
from provisioner.domain.errors import Unreachable
from provisioner.domain.offer import Machine, MachineState
from provisioner.domain.ports import Provider
from provisioner.providers.local import LocalProvider
from provisioner.providers.local.processes import members

from .console_laws import ConsoleLaws
from .hand_over_laws import HandOverLaws
from .provider_laws import ProviderLaws, ProviderWorld, listed, order, shows, vanishes


def config(folder: Path, name: str) -> str:
    """An agent that looks for a controller that is not there, and is patient about it."""
    key = name.removeprefix("runner-")
    return encode(AgentConfig(key, name, [f"unix:{folder}/nobody.sock"], "jt_x", "exit", "local")).decode()


def stray(name: str) -> subprocess.Popen[bytes]:
    """A process that carries the machine's mark and is not below its loop."""
    return subprocess.Popen(["sleep", "984"], env={**os.environ, "RUNNER_INSTANCE": name})


class TestLocal(ProviderLaws, ConsoleLaws, HandOverLaws):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> Iterator[Provider]:
        made = LocalProvider(tmp_path / "machines", "c-1", lambda: agent_bundle(tmp_path / "cache"), Decimal(0))
        yield made
        for entry in (tmp_path / "machines").iterdir():
            if not entry.name.startswith("."):
                asyncio.run(made.terminate("", entry.name, "local"))

    @pytest.fixture
    def world(self, tmp_path: Path) -> ProviderWorld:
        return ProviderWorld("c-1", asyncio.sleep, lambda name: config(tmp_path, name))

    @pytest.fixture
    def prints(self, tmp_path: Path) -> Callable[[Machine, str], None]:
        def write(machine: Machine, text: str) -> None:
            os.kill(
                json.loads((tmp_path / "machines" / machine.name / "process.json").read_text())["pid"], signal.SIGSTOP
            )
            with (tmp_path / "machines" / machine.name / "console.log").open("a") as file:
                file.write(text)

        return write

    async def test_a_name_that_was_ended_cannot_come_back(self, provider: Provider, world: ProviderWorld) -> None:
        late = await order(provider, world, "runner-i-late")
        await provider.terminate("", late.name, "local")
        await provider.launch(late)
        assert await listed(provider, late.name) == []
        assert members(late.name, None) == []

    async def test_another_controllers_machine_is_not_ours(
        self, provider: Provider, world: ProviderWorld, tmp_path: Path
    ) -> None:
        await provider.launch(await order(provider, world, "runner-i-1"))
        other = LocalProvider(tmp_path / "machines", "c-2", lambda: agent_bundle(tmp_path / "cache"), Decimal(0))
        assert await listed(other, "runner-i-1") == []

    async def test_a_machine_whose_loop_was_killed_still_shows_and_still_ends(
        self, provider: Provider, world: ProviderWorld, tmp_path: Path
    ) -> None:
        await provider.launch(await order(provider, world, "runner-i-1"))
        await shows(provider, world, "runner-i-1")
        mark = json.loads((tmp_path / "machines/runner-i-1/process.json").read_text())
        escaped = stray("runner-i-1")
        os.kill(mark["pid"], signal.SIGKILL)
        assert len(await listed(provider, "runner-i-1")) == 1
        await provider.terminate("", "runner-i-1", "local")
        await vanishes(provider, world, "runner-i-1")
        assert escaped.wait(10) == -signal.SIGKILL
        assert members("runner-i-1", None) == []

    async def test_a_launch_that_died_half_way_is_finished_by_the_next(
        self, provider: Provider, world: ProviderWorld, tmp_path: Path
    ) -> None:
        first = await order(provider, world, "runner-i-1")
        (tmp_path / "machines" / first.name / "state").mkdir(parents=True)
        await provider.launch(replace(first))
        assert len(await listed(provider, first.name)) == 1


async def test_machines_of_another_host_are_left_to_its_controller(tmp_path: Path) -> None:
    provider = LocalProvider(
        tmp_path, "c-1", lambda: agent_bundle(tmp_path / "cache"), Decimal(0), scope="local:here:/m"
    )
    with pytest.raises(Unreachable, match="local:there:/m"):
        await provider.terminate("", "runner-i-1", "local:there:/m")


async def test_what_is_left_of_a_machine_that_ended_by_itself_is_found_by_whoever_collects_for_all(
    tmp_path: Path,
) -> None:
    """Its own controller, which would have removed its folder, is gone; it costs nothing, and does not come back."""
    words = (tmp_path / "machines", "c-1", lambda: agent_bundle(tmp_path / "cache"), Decimal(0))
    own, anyone = LocalProvider(*words), LocalProvider(*words, any_controller=True)
    folder = tmp_path / "machines/runner-i-left"
    folder.mkdir()
    kept = {"name": "runner-i-left", "controller": "c-9", "launched_at": "2026-01-05T09:00:00+00:00", "tags": {}}
    (folder / "machine.json").write_text(json.dumps(kept))
    assert await listed(own, "runner-i-left") == []
    (left,) = await listed(anyone, "runner-i-left")
    assert (left.state, left.controller) == (MachineState.STOPPED, "c-9")
    await anyone.terminate(left.ref, left.name, left.scope)
    assert (await listed(anyone, "runner-i-left"), folder.exists()) == ([], False)
