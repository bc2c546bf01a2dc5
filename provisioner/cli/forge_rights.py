"""The right to make runners at a forge goes from the environment of a command to the embedded controller, which has
none: through its own socket, into its memory. It is on no command line and in no file."""

from __future__ import annotations

import os
from contextlib import suppress
from urllib.parse import urlsplit

from provisioner import app
from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import Site
from provisioner.domain.launching import CiRun

from . import health
from .client import Client
from .failures import REFUSED, CliError


class Rights:
    """At one site. A CI step of the same forge, `run`, was told where its API is."""

    def __init__(self, site: Site, run: CiRun | None = None) -> None:
        self._site = site
        self._api = run.api if run is not None and run.site.base == site.base else ""

    def begin(self, client: Client) -> None:
        """Nothing for a served controller, and for a forge that the settings open. Raises: CliError."""
        forges = client.told.get("forges")
        named = os.environ.get("RUNNER_FORGE_TOKEN", "").strip()
        known = (forges or {}).get(self._site.base) or {}
        if forges is None or (known.get("opened") and not named):
            return
        settings_say = os.environ.get(known.get("variable") or "", "").strip()
        kinds = app.forge_kinds()
        token = named or settings_say or kinds.token(self._site.kind, os.environ)
        try:
            body = {"url": self._site.url, "token": token, "api": self._api}
            below = {"base": self._site.below} if self._site.below else {}
            client.ask("PUT", f"/forges/{self._site.kind}", body | below)
        except CliError as error:
            declared = kinds.of(self._site.kind)
            if error.code == REFUSED and token and token == declared.jobs.own_token(os.environ):
                said = f"a workflow's own {declared.tokens[0]} cannot make runners ({error.message})"
                raise CliError(said, declared.own_token_hint, REFUSED) from error
            raise

    def again(self, client: Client) -> None:
        """After the controller lost what it had. In silence: it says itself what it lacks."""
        with suppress(CliError, InvalidRequest):
            self.begin(client)


def of_lost(client: Client) -> None:
    """For every site at which a restarted controller has something to remove, and no rights any more."""
    known = client.told.get("forges") or {}
    if not known and not client.told.get("embedded"):
        return
    for url in health.look(client).get("paused") or {}:
        with suppress(InvalidRequest):
            Rights(app.forge_kinds().site(url, _kinds(known))).again(client)


def named(client: Client, repo: str, kind: str, run: CiRun | None) -> Site:
    """The site that a command names: of a forge that the controller knows, that the step is of, or of this `kind`.
    Raises: InvalidRequest, CliError."""
    told = client.told or client.get("/status")
    host = urlsplit(repo if "://" in repo else f"https://{repo}").netloc
    here = {run.site.base.partition("://")[2]: str(run.site.kind)} if run is not None else {}
    return app.forge_kinds().site(repo, _kinds(told.get("forges") or {}) | here | ({host: kind} if kind else {}))


def _kinds(known: dict[str, dict[str, str]]) -> dict[str, str]:
    return {base.split("://", 1)[-1]: str(of["kind"]) for base, of in known.items()}
