"""The `aws` provider as the settings want it, and how its machines come by their agent."""

from __future__ import annotations

from collections.abc import Callable

from provisioner.bootstrap.bundle import digest
from provisioner.bootstrap.userdata import Door, launched_with
from provisioner.domain.offer import LaunchOrder
from provisioner.domain.ports import Clock
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.latest import Latest
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.settings import Settings

from .home import Home

_VISIBLE_S = 120.0  # arbitrary: far above the seconds for which EC2's listings are known to lag


def aws_account(settings: Settings, clock: Clock) -> Account:
    return Account(clock, settings.aws.profile)


def aws_options(settings: Settings) -> Options:
    ours = settings.aws
    return Options(
        regions=ours.regions,
        image=ours.image,
        subnets=ours.subnets,
        security_groups=ours.security_groups,
        instance_profile=ours.instance_profile,
        ssh_from=ours.ssh_from,
        disk_gib=ours.disk_gib,
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
) -> AwsProvider:
    """`door`: how a machine lets us in where it cannot reach us. `any_controller`: for collecting what has expired,
    whoever launched it."""
    startup = settings.aws.startup

    def user_data(order: LaunchOrder) -> str:
        return launched_with(order.name, order.config, digest(), startup, door and door(order.name))

    return AwsProvider(
        aws_account(settings, clock),
        latest(home),
        clock,
        controller_id,
        user_data,
        aws_options(settings),
        any_controller=any_controller,
        visibility_s=_VISIBLE_S * settings.policy_scale,
    )
