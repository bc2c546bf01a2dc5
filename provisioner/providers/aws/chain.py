"""What the SDK's own chain finds where a command is typed: profiles, SSO, roles, variables, and the way to the cloud.

The command hands it over to a controller, which uses it as `handed` says.
"""

from __future__ import annotations

import os
from typing import Any

from provisioner.domain.credentials import Credentials
from provisioner.domain.errors import Unauthorized

from .account import LOG_IN, ours
from .handed import KEYS, SCHEMES, TOKEN

# Whose endpoints may be set apart from the others'.
_SERVICES = ("ec2", "ssm", "sts", "service-quotas", "pricing", "scheduler")


def resolve(profile: str = "") -> Credentials:
    """What the SDK finds here, under `profile` if one is named. Raises: ProviderError."""
    with ours():
        import botocore.session

        session = botocore.session.Session(profile=profile or None)
        found = session.get_credentials()
        if found is None:
            raise Unauthorized("no AWS credentials: the SDK's own chain finds none here", hint=LOG_IN)
        frozen = _frozen(found)
        keys = {KEYS[0]: frozen.access_key, KEYS[1]: frozen.secret_key, TOKEN: frozen.token}
        return Credentials(
            keys={name: value for name, value in keys.items() if value},
            way=_way(session),
            expires_at=getattr(found, "_expiry_time", None),  # the SDK has no other word for it
            temporary=bool(frozen.token),
        )


def _frozen(found: Any) -> Any:
    try:
        return found.get_frozen_credentials()
    except RuntimeError as error:  # the SDK's way to say that what it was given is over
        raise Unauthorized("the AWS credentials here have expired", hint=LOG_IN) from error


def _way(session: Any) -> dict[str, str]:
    """Region, endpoints, certificates and proxies, as the SDK would use them here; what is not set is left out."""
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION", "")
    endpoints = _endpoints(session)
    way = {
        "region": region,
        "ca_bundle": session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE", ""),
        **endpoints,
        **_proxies(endpoints.get("endpoint") or f"https://ec2.{region or 'us-east-1'}.amazonaws.com"),
    }
    for name in ("use_fips_endpoint", "use_dualstack_endpoint"):
        way[name] = "yes" if session.get_config_variable(name) else ""
    return {name: str(value) for name, value in way.items() if value}


def _endpoints(session: Any) -> dict[str, str]:
    """`endpoint` for all services, and `endpoint.SERVICE` where one has another."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return {}
    scoped = session.get_scoped_config()
    found = {name: ConfiguredEndpointProvider(session.full_config, scoped, name).provide() for name in ("", *_SERVICES)}
    general = found.pop("") or ""
    apart = {f"endpoint.{name}": url for name, url in found.items() if url and url != general}
    return {"endpoint": general, **apart}


def _proxies(url: str) -> dict[str, str]:
    from botocore.utils import get_environ_proxies

    found = get_environ_proxies(url)
    return {f"proxy.{scheme}": found[scheme] for scheme in SCHEMES if found.get(scheme)}
