"""Credentials that a command handed over, at their other end: nothing comes from this process's environment or files.

The keys are read anew for each request, so that fresh ones need no new client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from provisioner.domain.credentials import Keys

KEYS = ("access_key_id", "secret_access_key")
TOKEN = "session_token"
SCHEMES = ("http", "https")


def session(keys: Keys) -> Any:
    """A boto3 session that signs with `keys` and reads no file and no variable."""
    import boto3
    import botocore.session

    core = botocore.session.Session()
    for name in ("config_file", "credentials_file"):
        core.set_config_variable(name, os.devnull)
    core.register_component("credential_provider", _Signing(keys))
    return boto3.Session(botocore_session=core)


class _Signing:
    """What botocore asks for credentials, and those themselves, since all that it wants of them is a frozen copy."""

    method = "handed-over"

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def load_credentials(self) -> _Signing:
        return self

    def get_frozen_credentials(self) -> Any:
        from botocore.credentials import ReadOnlyCredentials

        held = self._keys.current().keys
        return ReadOnlyCredentials(held[KEYS[0]], held[KEYS[1]], held.get(TOKEN))

    def get_deferred_property(self, name: str) -> Any:
        return lambda: None


def config(way: Mapping[str, str]) -> Any:
    """The part of a client's configuration that the way decides."""
    from botocore.config import Config

    proxies = {scheme: way[f"proxy.{scheme}"] for scheme in SCHEMES if f"proxy.{scheme}" in way}
    return Config(
        proxies=proxies,
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # the stubs lack it
        use_fips_endpoint="use_fips_endpoint" in way,
        use_dualstack_endpoint="use_dualstack_endpoint" in way,
    )


def words(way: Mapping[str, str], service: str) -> dict[str, Any]:
    """What a client is made with besides."""
    endpoint = way.get(f"endpoint.{service}") or way.get("endpoint")
    return {"endpoint_url": endpoint, "verify": way.get("ca_bundle")}
