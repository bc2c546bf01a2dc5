"""Forges on one host are told apart by where they begin."""

from __future__ import annotations

import pytest

from provisioner.app.webhooks import hook_name
from provisioner.domain.forge import ForgeKind, Site


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("https://git.example", "git.example"),
        ("https://git.example:8443", "git.example-8443"),
        ("https://git.example/lab/a", "git.example-lab-a"),
    ],
)
def test_a_hook_is_called_by_its_forges_address(base: str, name: str) -> None:
    assert hook_name(Site(ForgeKind("gitlab"), base, "team")) == name
