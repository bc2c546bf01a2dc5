"""The `aws` provider as the settings want it, and how its machines come by their agent."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from provisioner.bootstrap.bundle import digest
from provisioner.bootstrap.userdata import Door, launched_with
from provisioner.domain.credentials import Credentials, Identity, Keys
from provisioner.domain.errors import Conflict, ProviderError
from provisioner.domain.offer import LaunchOrder
from provisioner.domain.ports import Clock
from provisioner.domain.store import Records
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.handed import KEYS
from provisioner.providers.aws.latest import Latest
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.settings import Settings

from .home import Home
from .keyring import Cloud, launched_by, note_launches

_log = structlog.get_logger()
_VISIBLE_S = 120.0  # arbitrary: far above the seconds for which EC2's listings are known to lag


def aws_account(settings: Settings, clock: Clock, keys: Keys | None = None) -> Account:
    return Account(clock, settings.aws.profile, keys)


def aws_options(settings: Settings, *, passing: bool = False) -> Options:
    ours = settings.aws
    return Options(
        regions=ours.regions,
        image=ours.image,
        subnets=ours.subnets,
        security_groups=ours.security_groups,
        instance_profile=ours.instance_profile,
        ssh_from=ours.ssh_from,
        disk_gib=ours.disk_gib,
        limit_role=ours.hard_limit_role if ours.hard_limit else "",
        passing=passing,
    )


def latest(home: Home) -> Latest:
    return Latest(home.offers / "aws")


def aws_provider(
    settings: Settings,
    clock: Clock,
    controller_id: str,
    home: Home,
    *,
    door: Callable[[str], Door] | None = None,
    any_controller: bool = False,
    keys: Keys | None = None,
) -> AwsProvider:
    """`door`: how a machine lets us in where it cannot reach us. `any_controller`: for collecting what has expired,
    whoever launched it. `keys`: in place of the SDK's chain."""
    startup = settings.aws.startup

    def user_data(order: LaunchOrder) -> str:
        return launched_with(order.name, order.config, digest(), startup, door and door(order.name))

    return AwsProvider(
        aws_account(settings, clock, keys),
        latest(home),
        clock,
        controller_id,
        user_data,
        aws_options(settings, passing=home.lasting is not None),
        any_controller=any_controller,
        visibility_s=_VISIBLE_S * settings.policy_scale,
    )


def aws_cloud(
    settings: Settings, clock: Clock, controller_id: str, home: Home, door: Callable[[str], Door] | None = None
) -> Cloud:
    """For an embedded controller: opened by what commands hand over, and by nothing else."""

    async def identify(credentials: Credentials) -> Identity:
        account = Account(clock, keys=_Only(credentials))
        try:
            return await account.identity()
        finally:
            account.close()

    return Cloud(
        identify,
        lambda keys: aws_provider(settings, clock, controller_id, home, door=door, keys=keys),
        KEYS,
        settings.aws.enabled,
        settings.aws.profile,
    )


async def note_own(settings: Settings, clock: Clock, records: Records) -> None:
    """Whose machines a served controller launches, for an embedded one that may come after it."""
    account = Account(clock, settings.aws.profile)
    try:
        await note_launches(records, "aws", await account.identity())
    except ProviderError as error:
        _log.warning("provider.not_identified", provider="aws", error=error.message)
    finally:
        account.close()


async def check_account(settings: Settings, clock: Clock, records: Records) -> None:
    """Before a served controller lists an account: another's machines would be believed gone. Raises: Conflict."""
    known = await launched_by(records, "aws")
    account = Account(clock, settings.aws.profile)
    try:
        identity = await account.identity()
    except ProviderError as error:
        _log.warning("provider.not_identified", provider="aws", error=error.message)
        return
    finally:
        account.close()
    if known is not None and known.account != identity.account:
        raise Conflict(
            f"this controller has machines of AWS account {known.account}, and these credentials are of {identity}",
            hint="serve with that account's credentials until they are gone, or name another RUNNER_HOME",
        )


class _Only:
    """Keys that are still to be looked at."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def current(self) -> Credentials:
        return self._credentials

    def expired(self, credentials: Credentials) -> None:
        """The refusal itself says so."""
