"""The `aws` provider as the settings want it, and how its machines come by their agent."""

from __future__ import annotations

from provisioner.bootstrap.bundle import digest
from provisioner.bootstrap.userdata import launched_with
from provisioner.domain.offer import LaunchOrder
from provisioner.domain.ports import Clock
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.catalog import Catalog
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.settings import Settings

_VISIBLE_S = 120.0  # arbitrary: far above the seconds for which EC2's listings are known to lag


def aws_provider(settings: Settings, clock: Clock, controller_id: str, *, any_controller: bool = False) -> AwsProvider:
    """`any_controller`: for collecting what has expired, whoever launched it."""
    ours = settings.aws
    options = Options(
        regions=ours.regions,
        image=ours.image,
        subnets=ours.subnets,
        security_groups=ours.security_groups,
        instance_profile=ours.instance_profile,
        disk_gib=ours.disk_gib,
        limit_role=ours.hard_limit_role if ours.hard_limit else "",
    )
    account = Account(clock, ours.profile)
    return AwsProvider(
        account,
        Catalog(),
        clock,
        controller_id,
        _user_data,
        options,
        any_controller=any_controller,
        visibility_s=_VISIBLE_S * settings.policy_scale,
    )


def _user_data(order: LaunchOrder) -> str:
    return launched_with(order.name, order.config, digest())
