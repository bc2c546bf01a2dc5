"""Which webhooks are expected: the forges' own pure functions, each with the secrets that it checks with.

Whatever a forge's function raises becomes one of three things that the web knows an answer to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.domain.demand import NoWebhooks, Webhooks
from provisioner.domain.errors import (
    ForgeRefused,
    ForgeUnauthorized,
    InvalidRequest,
    NotFound,
    Unauthenticated,
)
from provisioner.domain.forge import Delivery, ForgeKind, Site
from provisioner.domain.kinds import Declared, Kinds
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.registry import folder

Read = Callable[[Mapping[str, str], bytes], Delivery]


@dataclass(frozen=True)
class Hook:
    """`site` is the whole forge's; `read` checks and reads with its secrets."""

    site: Site
    read: Read


class ForgeWebhooks:
    """The Webhooks port. `hooks` by kind of forge and name; the only one of a kind needs no name."""

    def __init__(self, hooks: Mapping[tuple[str, str], Hook]) -> None:
        self._hooks = dict(hooks)

    def read(self, kind: str, name: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        hook = self._hook(kind, name)
        try:
            delivery = hook.read(headers, body)
        except ForgeUnauthorized as error:
            raise Unauthenticated(error.message, hint=error.hint) from error
        except ForgeRefused as error:
            raise InvalidRequest(error.message, hint=error.hint) from error
        number = delivery.id if delivery.id.startswith(f"{hook.site.host} ") else f"{hook.site.host} {delivery.id}"
        return replace(delivery, id=number, facts={**delivery.facts, "base": hook.site.base})

    def _hook(self, kind: str, name: str) -> Hook:
        of_kind = {named: hook for (one, named), hook in self._hooks.items() if one == kind}
        found = of_kind.get(name) or (next(iter(of_kind.values())) if not name and len(of_kind) == 1 else None)
        if found is None:
            known = ", ".join(f"/hooks/{kind}/{one}" for one in of_kind if one)
            raise NotFound(
                f"no webhooks are expected at /hooks/{'/'.join(filter(None, (kind, name)))}",
                hint=f"expected: {known}" if known else "give the forge a webhook secret in the settings",
            )
        return found


def expected(settings: Sequence[ForgeSettings], home: Path, kinds: Kinds) -> Webhooks:
    """Those of forges whose settings name a secret, called by their addresses, with dashes for colons and slashes."""
    hooks: dict[tuple[str, str], Hook] = {}
    for one in settings:
        if one.webhook_secret_file:
            site = Site(ForgeKind(one.kind), one.url, "")
            secret = home / Path(one.webhook_secret_file).expanduser()
            hooks[one.kind, hook_name(site)] = Hook(site, _reading(site, secret, kinds.of(one.kind)))
    return ForgeWebhooks(hooks) if hooks else NoWebhooks()


def hook_name(site: Site) -> str:
    return site.base.partition("://")[2].replace(":", "-").replace("/", "-")


def _reading(site: Site, secret_file: Path, declared: Declared) -> Read:
    """The file is read each time, so that a secret can be changed in place. An empty one would let anybody in."""

    def read(headers: Mapping[str, str], body: bytes) -> Delivery:
        try:
            secret = secret_file.read_text().strip()
        except OSError as error:
            raise ForgeUnauthorized(f"the webhook secret of {site.host} cannot be read: {error.strerror}") from error
        if not secret:
            raise ForgeUnauthorized(f"the webhook secret of {site.host} is empty")
        return folder(declared).delivery(site, headers, body, secret)

    return read
