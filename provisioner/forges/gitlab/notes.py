"""What people read at a GitLab: notes on merge requests and issues, discussions on commits, and commit statuses.

Comments of commits are discussions here, because a plain commit comment can never be changed. Its id is therefore
DISCUSSION/NOTE. Source: docs.gitlab.com api/notes, api/discussions, api/commits, 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Comment, Conclusion, Site, Target

from ..rest import Rest
from .scope import project

LONGEST = 1_000_000  # Source: docs.gitlab.com, administration/instance_limits, size of comments, 2026
_DESCRIPTION = 255  # Source: api/commits, description of a commit status
_KINDS = {"pr": "merge_requests", "issue": "issues", "commit": "repository/commits"}
# It has no neutral: what does not matter must not stop a merge.
_STATES = {Conclusion.SUCCESS: "success", Conclusion.FAILURE: "failed", Conclusion.NEUTRAL: "success"}


class Notes:
    longest = LONGEST

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._user: int | None = None

    async def _me(self) -> int:
        if self._user is None:
            self._user = int((await self._rest.call("GET", "/user")).body["id"])
        return self._user

    async def comments(self, site: Site, target: Target) -> Sequence[Comment]:
        if target.what == "commit":
            talks = await self._rest.pages(_place(site, target, "discussions"), {"per_page": "100"})
            said = [(f"{talk['id']}/{note['id']}", note) for talk in talks for note in talk["notes"]]
            said.sort(key=lambda one: int(one[1]["id"]))
        else:
            query = {"sort": "asc", "order_by": "created_at", "per_page": "100"}
            said = [(str(note["id"]), note) for note in await self._rest.pages(_place(site, target, "notes"), query)]
        me = await self._me()
        return [
            _comment(site, target, key, note, mine=note["author"]["id"] == me)
            for key, note in said
            if not note.get("system")
        ]

    async def add(self, site: Site, target: Target, body: str) -> Comment:
        _check(body)
        if target.what == "commit":
            talk = (await self._rest.call("POST", _place(site, target, "discussions"), body={"body": body})).body
            return _comment(site, target, f"{talk['id']}/{talk['notes'][0]['id']}", talk["notes"][0])
        note = (await self._rest.call("POST", _place(site, target, "notes"), body={"body": body})).body
        return _comment(site, target, str(note["id"]), note)

    async def edit(self, site: Site, target: Target, comment_id: str, body: str) -> Comment:
        _check(body)
        note = (await self._rest.call("PUT", _note(site, target, comment_id), body={"body": body})).body
        return _comment(site, target, comment_id, note)

    async def drop(self, site: Site, target: Target, comment_id: str) -> None:
        await self._rest.call("DELETE", _note(site, target, comment_id), expect=(404,), removal=True)

    async def check(self, site: Site, sha: str, name: str, conclusion: Conclusion, title: str, text: str) -> str:
        """A commit status: a line long, so that `text` has no place in it. Said twice, it is there once."""
        told = title if len(title) <= _DESCRIPTION else title[: _DESCRIPTION - 1] + "…"
        body = {"state": _STATES[conclusion], "name": name, "description": told}
        answer = await self._rest.call("POST", f"{project(site.path)}/statuses/{sha}", body=body, expect=(400,))
        if answer.status == 400 and "Cannot transition status" not in str(answer.body):
            raise ForgeRefused(f"GitLab takes no status of {sha[:12]}: {str(answer.body)[:200]}")
        return f"{site.url}/-/commit/{sha}"


def _place(site: Site, target: Target, what: str) -> str:
    """Raises: ForgeRefused."""
    if target.what not in _KINDS:
        raise ForgeRefused(f"GitLab has no comments on {target.what[:40]!r}", hint=", ".join(_KINDS))
    return f"{project(site.path)}/{_KINDS[target.what]}/{target.ref}/{what}"


def _note(site: Site, target: Target, comment_id: str) -> str:
    talk, _, note_id = comment_id.rpartition("/")
    return _place(site, target, f"discussions/{talk}/notes/{note_id}" if talk else f"notes/{note_id}")


def _comment(site: Site, target: Target, comment_id: str, note: dict[str, Any], mine: bool = True) -> Comment:
    page = {"pr": "merge_requests", "issue": "issues", "commit": "commit"}[target.what]
    return Comment(comment_id, str(note["body"]), f"{site.url}/-/{page}/{target.ref}#note_{note['id']}", mine)


def _check(body: str) -> None:
    if len(body) > LONGEST:
        raise ForgeRefused(f"a note has {LONGEST} characters at most, not {len(body)}", hint="leave something out")
