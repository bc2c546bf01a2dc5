"""What people and programs say on a fake GitLab: notes on merge requests and issues, discussions on commits, statuses.

Source: docs.gitlab.com, api/notes, api/discussions (commits), api/commits (set commit pipeline status), 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.fakes.forge_http import Answer, Asked, Refusal, Route

from .state import Note, Project, State, Status

LONGEST = 1_000_000
ADA, MALLORY = 7, 8  # the users: whose the token is, and somebody else
_KINDS = "merge_requests|issues"


class Said:
    def __init__(self, state: State, page: Callable[[Asked, Sequence[Any], str, int], Answer]) -> None:
        self.state = state
        self.page = page

    def routes(self, project: Callable[[str], Project]) -> Sequence[Route]:
        self._project = project
        commits = "/projects/([^/]+)/repository/commits/([0-9a-f]+)/discussions"
        return (
            ("GET", "/user", lambda asked: {"id": ADA, "username": "ada"}),
            ("GET", f"/projects/([^/]+)/({_KINDS})/([0-9]+)/notes", self._notes),
            ("POST", f"/projects/([^/]+)/({_KINDS})/([0-9]+)/notes", self._add_note),
            ("PUT", f"/projects/([^/]+)/({_KINDS})/([0-9]+)/notes/([0-9]+)", self._edit),
            ("DELETE", f"/projects/([^/]+)/({_KINDS})/([0-9]+)/notes/([0-9]+)", self._delete),
            ("DELETE", commits + "/([0-9a-f]+)/notes/([0-9]+)", self._delete),
            ("GET", commits, self._discussions),
            ("POST", commits, self._discuss),
            ("PUT", commits + "/([0-9a-f]+)/notes/([0-9]+)", self._edit),
            ("POST", "/projects/([^/]+)/statuses/([0-9a-f]+)", self._status),
        )

    def there(self, where: tuple[str, int, str]) -> list[Note]:
        return [note for note in self.state.notes if note.where == where]

    def say(self, where: tuple[str, int, str], body: str, *, system: bool = False, author: int = ADA) -> Note:
        if not body.strip():
            raise Refusal(400, "Note can't be blank")
        if len(body) > LONGEST:
            raise Refusal(400, f"Note is too long (maximum is {LONGEST} characters)")
        number = next(self.state.ids)
        note = Note(number, body, where, system, f"{number:040x}", author)
        self.state.notes.append(note)
        return note

    def _where(self, asked: Asked) -> tuple[str, int, str]:
        project = self._project(asked.words[0])
        if asked.words[1] in _KINDS.split("|"):
            return asked.words[1], project.id, asked.words[2]
        return "commits", project.id, asked.words[1]

    def _note_json(self, note: Note) -> dict[str, Any]:
        return {"id": note.id, "body": note.body, "system": note.system, "noteable_type": note.where[0]} | {
            "author": {"id": note.author}
        }

    def _notes(self, asked: Asked) -> Answer:
        """Newest first, unless asked otherwise."""
        notes = self.there(self._where(asked))
        notes = notes if asked.one("sort", "desc") == "asc" else notes[::-1]
        return self.page(asked, [self._note_json(note) for note in notes], "per_page", 100)

    def _add_note(self, asked: Asked) -> Answer:
        return Answer(self._note_json(self.say(self._where(asked), asked.body["body"])), 201)

    def _edit(self, asked: Asked) -> Any:
        note = self._note(asked)
        note.body = asked.body["body"]
        return self._note_json(note)

    def _delete(self, asked: Asked) -> Answer:
        self.state.notes.remove(self._note(asked))
        return Answer(None, 204)

    def _note(self, asked: Asked) -> Note:
        where = self._where(asked)
        note = next((one for one in self.there(where) if str(one.id) == asked.words[-1]), None)
        if note is None or (where[0] == "commits" and note.discussion != asked.words[2]):
            raise Refusal(404, "404 Not found")
        return note

    def _discussions(self, asked: Asked) -> Answer:
        found = [{"id": note.discussion, "notes": [self._note_json(note)]} for note in self.there(self._where(asked))]
        return self.page(asked, found, "per_page", 100)

    def _discuss(self, asked: Asked) -> Answer:
        note = self.say(self._where(asked), asked.body["body"])
        return Answer({"id": note.discussion, "individual_note": False, "notes": [self._note_json(note)]}, 201)

    def _status(self, asked: Asked) -> Answer:
        project, sha, body = self._project(asked.words[0]), asked.words[1], asked.body
        if body.get("state") not in ("pending", "running", "success", "failed", "canceled", "skipped"):
            raise Refusal(400, "state does not have a valid value")
        if len(body.get("description") or "") > 255:
            raise Refusal(400, "description is too long (maximum is 255 characters)")
        name = body.get("name") or "default"
        mine = [one for one in self.state.statuses if (one.project, one.sha, one.name) == (project.id, sha, name)]
        if mine and mine[-1].state == body["state"]:
            raise Refusal(400, f"Cannot transition status via :{body['state']} from :{body['state']}")
        self.state.statuses.append(Status(project.id, sha, name, body["state"], body.get("description") or ""))
        return Answer({"id": next(self.state.ids), "sha": sha, "status": body["state"], "name": name}, 201)
