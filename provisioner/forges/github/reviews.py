"""The Reviews port at GitHub: comments on pull requests, issues and commits, and check runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Comment, Conclusion, Site, Target

from .account import Account
from .addresses import repository_of

LONGEST = 65_536  # Source: GitHub's own refusal, "Body is too long (maximum is 65536 characters)"
_LONGEST_STATUS = 140  # Source: GitHub's own refusal of a commit status: "maximum is 140 characters"
_STATES = {Conclusion.SUCCESS: "success", Conclusion.FAILURE: "failure", Conclusion.NEUTRAL: "success"}


class Discussions:
    """A pull request's comments are those of its issue: what is said on lines of its code is something else."""

    account: Account
    longest = LONGEST

    async def comments(self, site: Site, target: Target) -> Sequence[Comment]:
        rest = await self.account.at(site)
        found = await rest.pages(_thread(site, target), {"per_page": "100"})
        me = await self.account.user_id()
        return [_comment(told, _wrote(told, me)) for told in sorted(found, key=lambda told: int(told["id"]))]

    async def add(self, site: Site, target: Target, body: str) -> Comment:
        rest = await self.account.at(site)
        return _comment((await rest.call("POST", _thread(site, target), body={"body": body})).body)

    async def edit(self, site: Site, target: Target, comment_id: str, body: str) -> Comment:
        rest = await self.account.at(site)
        return _comment((await rest.call("PATCH", _one(site, target, comment_id), body={"body": body})).body)

    async def drop(self, site: Site, target: Target, comment_id: str) -> None:
        rest = await self.account.at(site)
        await rest.call("DELETE", _one(site, target, comment_id), expect=(404,), removal=True)

    async def check(self, site: Site, sha: str, name: str, conclusion: Conclusion, title: str, text: str) -> str:
        """Only Apps (a workflow's own token is one's) may make check runs: for others it is a commit status, which
        has room for the title alone."""
        rest = await self.account.at(site)
        base = repository_of(site.path)
        output = {"title": title or name, "summary": text}
        body = {"name": name, "head_sha": sha, "status": "completed", "conclusion": conclusion.value, "output": output}
        answer = await rest.call("POST", f"{base}/check-runs", body=body, expect=(403,))
        if answer.status != 403:
            return answer.body["html_url"] or f"{site.url}/commit/{sha}"
        state = {"state": _STATES[conclusion], "context": name, "description": title[:_LONGEST_STATUS]}
        await rest.call("POST", f"{base}/statuses/{quote(sha, safe='')}", body=state)
        return f"{site.url}/commit/{sha}"


def _thread(site: Site, target: Target) -> str:
    kinds = {"pr": "issues", "issue": "issues", "commit": "commits"}
    if target.what not in kinds:
        raise ForgeRefused(f"GitHub has no comments on {target.what[:40]!r}", hint=", ".join(kinds))
    return f"{repository_of(site.path)}/{kinds[target.what]}/{quote(target.ref, safe='')}/comments"


def _one(site: Site, target: Target, comment_id: str) -> str:
    place = "comments" if target.what == "commit" else "issues/comments"
    return f"{repository_of(site.path)}/{place}/{quote(comment_id, safe='')}"


def _wrote(told: Mapping[str, Any], me: int | None) -> bool:
    """Nobody but a program can have written as one."""
    author = told.get("user") or {}
    return author.get("type") == "Bot" if me is None else author.get("id") == me


def _comment(told: Mapping[str, Any], mine: bool = True) -> Comment:
    return Comment(str(told["id"]), told.get("body") or "", told.get("html_url") or "", mine)
