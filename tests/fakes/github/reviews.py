"""Where people read: comments on issues, pull requests and commits, check runs and statuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import shapes
from .state import State

LONGEST = 65536
ADA, MALLORY, BOT = "ada", "mallory", "runners[bot]"  # whose the token is; somebody else; the App


@dataclass
class Comment:
    id: int
    on: str
    body: str
    author: str = MALLORY


@dataclass
class Check:
    id: int
    sha: str
    name: str
    conclusion: str
    output: dict[str, str]


@dataclass
class Reviews:
    """`on` is the path of an issue or a commit in its repository: acme/vision/issues/7."""

    state: State
    comments: list[Comment] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def of(self, on: str) -> list[Comment]:
        with self.state.lock:
            return [comment for comment in self.comments if comment.on == on]

    def add(self, on: str, body: str, author: str = MALLORY) -> Comment:
        with self.state.lock:
            made = Comment(self.state.next_id(), on, body, author)
            self.comments.append(made)
            return made

    def find(self, number: int) -> Comment | None:
        with self.state.lock:
            return next((comment for comment in self.comments if comment.id == number), None)

    def drop(self, comment: Comment) -> None:
        with self.state.lock:
            self.comments.remove(comment)

    def check(self, sha: str, name: str, conclusion: str, output: dict[str, str]) -> Check:
        with self.state.lock:
            made = Check(self.state.next_id(), sha, name, conclusion, output)
            self.checks.append(made)
            return made


def shaped(comment: Comment, web: str) -> Any:
    schema = "commit-comment" if "/commits/" in comment.on else "issue-comment"
    facts = {"id": comment.id, "body": comment.body, "html_url": f"{web}/{comment.on}#comment-{comment.id}"}
    facts["user"] = user(comment.author)
    return shapes.complete(shapes.named(schema), facts)


def user(login: str) -> dict[str, Any]:
    kind = "Bot" if login == BOT else "User"
    return {"login": login, "id": (ADA, MALLORY, BOT).index(login) + 1, "type": kind}
