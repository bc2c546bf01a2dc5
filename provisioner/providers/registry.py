"""Which providers there are: one line each. A cloud's own library is imported only when the cloud is named."""

from __future__ import annotations

from provisioner.domain.credentials import Credentials
from provisioner.domain.errors import InvalidRequest

NAMES = ("local", "aws")


def resolve(provider: str, profile: str) -> Credentials:
    """What the cloud's own SDK finds in this process's environment. Raises: InvalidRequest, ProviderError."""
    match provider:
        case "aws":
            from .aws.chain import resolve as found
        case _:
            raise InvalidRequest(f"{provider!r} needs no credentials")
    return found(profile)
