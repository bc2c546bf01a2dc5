"""What the clouds that can be named are able to do, where a name alone has to tell."""

from __future__ import annotations

from provisioner.domain.abilities import HasHandOver
from provisioner.domain.handing import unfit
from provisioner.providers.aws.provider import AwsProvider
from provisioner.providers.hosts import HostsProvider
from provisioner.providers.local import LocalProvider


def test_the_providers_whose_machines_can_be_left_are_those_that_are_let_through() -> None:
    kinds = {"local": LocalProvider, "aws": AwsProvider, "hosts": HostsProvider}
    able = {name for name, kind in kinds.items() if issubclass(kind, HasHandOver)}
    assert {name for name in kinds if not unfit((name,))} == able
