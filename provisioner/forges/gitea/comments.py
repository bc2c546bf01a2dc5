"""What people read at a Gitea or Forgejo: comments on pull requests and issues, which are one kind, and statuses.

Source: their API (swagger), issue comments and commit statuses, 2026. Commits have no comments there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Comment, Conclusion, Site, Target

from ..rest import Rest
from .server import API, repository

LONGEST = 262_144  # arbitrary: neither has a limit of its own
_DESCRIPTION = 255  # arbitrary: one line beside the status
_WORKFLOWS = -2  # Source: both, models/user/user_system.go, 2026: the user that a workflow's own token stands for
# What does not matter must not stop a merge; neither has a word for it.
_STATES = {Conclusion.SUCCESS: "success", Conclusion.FAILURE: "failure", Conclusion.NEUTRAL: "success"}


class Comments:
    longest = LONGEST

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._user: int | None = None

    async def _me(self) -> int:
        """A token that may not ask is taken for a workflow's own. Raises: ForgeError."""
        if self._user is None:
            answer = await self._rest.call("GET", f"{API}/user", expect=(403,))
            self._user = _WORKFLOWS if answer.status == 403 else int(answer.body["id"])
        return self._user

    async def comments(self, site: Site, target: Target) -> Sequence[Comment]:
        told = await self._rest.pages(_place(site, target))
        me = await self._me()
        found = [_comment(one, (one.get("user") or {}).get("id") == me) for one in told]
        return sorted(found, key=lambda one: int(one.id))

    async def add(self, site: Site, target: Target, body: str) -> Comment:
        _check(body)
        return _comment((await self._rest.call("POST", _place(site, target), body={"body": body})).body)

    async def edit(self, site: Site, target: Target, comment_id: str, body: str) -> Comment:
        _check(body)
        return _comment((await self._rest.call("PATCH", _one(site, comment_id), body={"body": body})).body)

    async def drop(self, site: Site, target: Target, comment_id: str) -> None:
        await self._rest.call("DELETE", _one(site, comment_id), expect=(404,), removal=True)

    async def check(self, site: Site, sha: str, name: str, conclusion: Conclusion, title: str, text: str) -> str:
        """A commit status: a line long, so that `text` has no place in it."""
        told = title if len(title) <= _DESCRIPTION else title[: _DESCRIPTION - 1] + "…"
        body = {"state": _STATES[conclusion], "context": name, "description": told}
        await self._rest.call("POST", f"{repository(site.path)}/statuses/{sha}", body=body)
        return f"{site.url}/commit/{sha}"


def _place(site: Site, target: Target) -> str:
    """Raises: ForgeRefused."""
    if target.what not in ("pr", "issue"):
        raise ForgeRefused(
            f"Gitea and Forgejo have no comments on {target.what[:40]!r}", hint="comment on the pull request"
        )
    return f"{repository(site.path)}/issues/{int(target.ref)}/comments"


def _one(site: Site, comment_id: str) -> str:
    return f"{repository(site.path)}/issues/comments/{int(comment_id)}"


def _comment(told: dict[str, Any], mine: bool = True) -> Comment:
    return Comment(str(told["id"]), str(told["body"]), str(told.get("html_url") or ""), mine)


def _check(body: str) -> None:
    if len(body) > LONGEST:
        raise ForgeRefused(f"a comment has {LONGEST} characters at most, not {len(body)}", hint="leave something out")
