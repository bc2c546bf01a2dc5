"""The aws provider with keys that were handed over: they sign every call, change at any time, and end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.aws import aws_cloud
from provisioner.app.held import Held
from provisioner.app.home import Home
from provisioner.domain.credentials import Credentials, Identity
from provisioner.domain.errors import Unauthorized
from provisioner.domain.job import Need
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.catalog import Catalog
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.settings import Settings
from tests.fakes import ec2
from tests.fakes.ec2 import Cloud, Key

from .provider_laws import ProviderWorld, order
from .test_provider_aws import MOTO, SystemClock

ANN = Identity(MOTO, f"arn:aws:iam::{MOTO}:user/ann")
BOB = Identity("999999999999", "arn:aws:sts::999999999999:assumed-role/Trainer")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path_factory.mktemp("ec2")) as running:
        yield running


@pytest.fixture(autouse=True)
def known(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts, and an environment whose own credentials nobody knows."""
    cloud.keys = {"AKIAANN": Key(ANN.name), "AKIAANN2": Key(ANN.name), "ASIABOB": Key(f"{BOB.name}/this-session")}
    cloud.calls.clear()
    cloud.signed_by.clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")


def keys(cloud: Cloud, key: str) -> Credentials:
    opened = {"access_key_id": key, "secret_access_key": "secret"}
    return Credentials(opened, {"region": "us-east-1", "endpoint": cloud.endpoint})


def made(held: Held) -> AwsProvider:
    clock, options = SystemClock(), Options(regions=("us-east-1",), image_owners=frozenset({MOTO}))
    return AwsProvider(Account(clock, keys=held), Catalog(), clock, "c-1", lambda order: f"#{order.name}", options)


@pytest.fixture
def world() -> ProviderWorld:
    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


async def launched(provider: AwsProvider, world: ProviderWorld, name: str) -> Any:
    return await provider.launch(await order(provider, world, name, Need(regions=("us-east-1",))))


async def test_whose_they_are_is_asked_without_the_name_of_the_session(cloud: Cloud, tmp_path: Path) -> None:
    aws = aws_cloud(Settings(), SystemClock(), "c-1", Home(tmp_path))
    assert await aws.identify(keys(cloud, "AKIAANN")) == ANN
    assert await aws.identify(keys(cloud, "ASIABOB")) == BOB
    with pytest.raises(Unauthorized, match="InvalidClientTokenId"):
        await aws.identify(keys(cloud, "AKIANOBODY"))


async def test_every_call_is_signed_with_them_and_fresh_ones_are_used_at_once(
    cloud: Cloud, world: ProviderWorld
) -> None:
    held = Held("aws", SystemClock())
    held.hold(ANN, keys(cloud, "AKIAANN"))
    provider = made(held)
    machine = await launched(provider, world, "runner-i-keys")
    assert {key for _, key in cloud.signed_by} == {"AKIAANN"}
    cloud.signed_by.clear()
    held.hold(ANN, keys(cloud, "AKIAANN2"))
    await provider.terminate(machine.ref, machine.name, machine.scope)
    assert cloud.signed_by == [("TerminateInstances", "AKIAANN2")]


async def test_without_any_nothing_is_asked_and_the_refusal_says_what_to_do(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made(Held("aws", SystemClock()))
    wanted = await order(provider, world, "runner-i-nobody", Need(regions=("us-east-1",)))
    for work in (provider.machines(), provider.launch(wanted), provider.terminate("i-1", "runner-i-1", "us-east-1")):
        with pytest.raises(Unauthorized, match=r"^aws is paused: no credentials were handed over"):
            await work
    assert cloud.calls == []


async def test_what_expired_on_the_way_is_not_used_again(cloud: Cloud, world: ProviderWorld) -> None:
    """The cloud says so before the clock does."""
    held = Held("aws", SystemClock())
    held.hold(ANN, keys(cloud, "AKIAANN"))
    provider = made(held)
    wanted = await order(provider, world, "runner-i-over", Need(regions=("us-east-1",)))
    cloud.keys["AKIAANN"] = replace(cloud.keys["AKIAANN"], over=True)
    with pytest.raises(Unauthorized):
        await provider.launch(wanted)
    assert held.paused.startswith("aws is paused: its credentials have expired; log in")
    held.hold(ANN, keys(cloud, "AKIAANN2"))
    assert (await provider.launch(wanted)).name == wanted.name


async def test_a_key_that_one_call_refuses_is_not_taken_for_expired(cloud: Cloud) -> None:
    """EC2 answers AuthFailure for a region that is off as well."""
    held = Held("aws", SystemClock())
    held.hold(ANN, keys(cloud, "AKIANOBODY"))
    assert {listing.complete for listing in await made(held).machines()} == {False}
    assert held.paused == ""


async def test_another_way_is_gone_by_another_client(cloud: Cloud) -> None:
    held = Held("aws", SystemClock())
    held.hold(ANN, replace(keys(cloud, "AKIAANN"), way={"region": "us-east-1", "endpoint": "http://127.0.0.1:1"}))
    account = Account(SystemClock(), keys=held)
    with pytest.raises(Exception, match="AWS did not answer"):
        await account.identity()
    held.hold(ANN, keys(cloud, "AKIAANN"))
    assert await account.identity() == ANN


async def test_accounts_do_not_see_one_anothers_machines(cloud: Cloud, world: ProviderWorld) -> None:
    """Which is why the credentials of another account are never used for machines that live."""
    ann, bob = Held("aws", SystemClock()), Held("aws", SystemClock())
    ann.hold(ANN, keys(cloud, "AKIAANN"))
    bob.hold(BOB, keys(cloud, "ASIABOB"))
    await launched(made(ann), world, "runner-i-anns")
    seen = {held: [m.name for listing in await made(held).machines() for m in listing.machines] for held in (ann, bob)}
    assert "runner-i-anns" in seen[ann]
    assert seen[bob] == []
