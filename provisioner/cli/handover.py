"""Credentials go where they are used: from the environment of a command to the embedded controller, which has none.

Only through its own socket, and only for a cloud that the command names or that the settings have enabled. What the
controller says of them is said here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from . import render
from .client import Client
from .failures import CliError


class Handover:
    """`named` are the providers that the command names: without credentials of theirs it is refused. Those in `also`
    are handed over if there are any. `need` is that of the job, for what a first use shows; without a job, only
    credentials of the account that is in use already are taken."""

    def __init__(
        self, client: Client, named: Collection[str], also: Collection[str] = (), need: Mapping[str, Any] | None = None
    ) -> None:
        clouds: dict[str, dict[str, Any]] = client.told.get("credentials") or {}
        self._profiles = {name: str(of["profile"]) for name, of in clouds.items() if name in (*named, *also)}
        self._named = frozenset(named)
        self._need = need

    def begin(self, client: Client) -> None:
        """Raises: CliError, or what the cloud's SDK says, for a provider that was named."""
        for name, profile in self._profiles.items():
            try:
                self._hand_over(client, name, profile)
            except Exception as error:
                if name in self._named or not _told(error):
                    raise
                render.say(f"runner: {name} is left out: {_told(error)}")

    def again(self, client: Client) -> None:
        """After the controller lost what it had: whatever is here now, in silence if that is nothing new."""
        for name, profile in self._profiles.items():
            try:
                self._hand_over(client, name, profile)
            except Exception as error:
                if not _told(error):
                    raise

    def _hand_over(self, client: Client, name: str, profile: str) -> None:
        from provisioner import app

        body = app.resolved(name, profile)
        taken = client.ask("PUT", f"/credentials/{name}", {**body, "need": self._need, "same": self._need is None})
        if taken["first"]:
            render.say(f"runner: {_first_use(name, taken)}")
        for note in taken["notes"]:
            render.say(f"runner: {note}")


def of_job(client: Client, need: Mapping[str, Any]) -> Handover:
    """For a job of this need: the providers that it names, or else those that the settings have enabled."""
    named = list(need.get("providers") or ())
    clouds: dict[str, dict[str, Any]] = client.told.get("credentials") or {}
    return Handover(client, named, () if named else [name for name, of in clouds.items() if of["enabled"]], need)


def of_used(client: Client) -> Handover:
    """For what concerns machines that are there already: every cloud that this controller has used."""
    clouds: dict[str, dict[str, Any]] = client.told.get("credentials") or {}
    return Handover(client, (), [name for name, of in clouds.items() if of["used"]])


def _first_use(name: str, taken: Mapping[str, Any]) -> str:
    """Account, price and cap."""
    whose, cap = taken["identity"], taken["cap"]
    offer = f"; its best offer for this is {taken['offer']}" if taken["offer"] else ""
    limits = f"${cap['max_usd_per_hour']}/h and {cap['max_instances']} machines"
    return f"first use of {name} account {whose['account']}, as {whose['name']}{offer}; at most {limits} at once"


def _told(error: Exception) -> str:
    """The sentence of an error of ours; "" for a bug."""
    if isinstance(error, CliError):
        return error.line
    hint = getattr(error, "hint", None)
    return "" if hint is None else CliError(str(error), hint).line
