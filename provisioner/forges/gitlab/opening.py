"""How a GitLab is opened, and how its webhooks are read."""

from __future__ import annotations

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeCredentials, Release
from provisioner.domain.ports import Clock

from .forge import GitLab
from .webhooks import delivery as delivery


def open_forge(base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> GitLab:
    """Raises: InvalidRequest."""
    if not credentials.token:
        raise InvalidRequest(
            f"{base} needs a token", hint="a personal, group or project access token with the scopes api, create_runner"
        )
    return GitLab(base, credentials, clock, release)
