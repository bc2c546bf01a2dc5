"""Which webhooks are expected: the forges' own pure functions, each with the secrets that it checks with.

Whatever a forge's function raises becomes one of three things that the web knows an answer to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from provisioner.domain.errors import (
    ForgeRefused,
    ForgeUnauthorized,
    InvalidRequest,
    NotFound,
    Unauthenticated,
)
from provisioner.domain.forge import Delivery, Site

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
