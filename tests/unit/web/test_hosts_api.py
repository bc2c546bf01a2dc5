"""Hosts over HTTP: only administrators change them, and whoever forces one away is named."""

from __future__ import annotations

from typing import Any

from .served import Served

HOST: dict[str, Any] = {"address": "10.0.0.7", "host_keys": ["ssh-ed25519 AAAA a comment"]}


async def test_a_host_is_forgotten_or_given_up_by_whoever_asks(web: Served) -> None:
    hosting: Any = web.services.hosting
    for name in ("attic", "cellar"):
        assert (await web.control.call("PUT", f"/api/v1/hosts/{name}", HOST)).status == 201
    plain = await web.control.call("DELETE", "/api/v1/hosts/cellar")
    assert (plain.status, plain.json) == (200, {"removed": "cellar", "unconfirmed": []})
    admin, user = await web.person("admin", "eve"), await web.person("user", "bob")
    refused = await user.call("DELETE", "/api/v1/hosts/attic?force=true")
    assert (refused.status, hosting.given_up) == (403, {})
    forced = await admin.call("DELETE", "/api/v1/hosts/attic?force=true")
    assert (forced.status, forced.json) == (200, {"removed": "attic", "unconfirmed": ["i-1"]})
    assert hosting.given_up == {"attic": "eve"}
