"""How a Gitea or Forgejo is opened, and how its webhooks are read."""

from __future__ import annotations

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeCredentials, Release
from provisioner.domain.ports import Clock

from .forge import GiteaForge
from .webhooks import delivery as delivery


def open_forge(base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> GiteaForge:
    """Raises: InvalidRequest."""
    if not credentials.token:
        raise InvalidRequest(
            f"{base} needs a token", hint="an access token that may write the repository or the organisation"
        )
    return GiteaForge(base, credentials, clock, release)
