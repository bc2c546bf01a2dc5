"""The fake GitHub's runner scale sets: the Actions service beside the REST API, with a queue of messages for each set.

GitHub publishes no description of it: what is here follows its published client (github.com/actions/scaleset) and what
people report of its answers. Jobs that ask for a set's label, and for nothing else, are the set's; its runners alone
may have them, and the REST API shows those without labels. What has
waited is told in one message, at most fifty, and until it is deleted. Ids of jobs in messages are none that the REST
API knows.

Troubles are ordered as for the REST API, by the names in `_ROUTES`. `acquiring`: jobs are offered first, as Enterprise
Server does. `deaf`: messages cannot be deleted. `doubled`: a deleted message is told once more. `claims` is added to
what the statistics count. Answers to the call `garbled` are of another shape. `asked` names every request; `rooms` are
the capacities that were told.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.trouble import due

from . import routes
from .reply import Reply
from .state import Job, Record, Run

if TYPE_CHECKING:
    from .server import FakeGitHub

ADMIN_S, QUEUE_S = 3600.0, 1800.0


@dataclass
class Session:
    id: str
    token: str
    until_s: float
    heard_s: float
    polling: int = 0


@dataclass
class ScaleSet:
    id: int
    name: str
    scope: str
    group_id: int
    messages: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    told: int = 0
    spoilt: str = ""
    session: Session | None = None
    jobs: set[int] = field(default_factory=set)
    offered: set[int] = field(default_factory=set)
    numbers: Any = field(default_factory=lambda: itertools.count(1))


class ScaleSets:
    """`poll_s`: a long poll, in real seconds. `session_s`: a session that is not heard for so long is over."""

    def __init__(self, forge: FakeGitHub) -> None:
        self.forge = forge
        self.sets: list[ScaleSet] = []
        self.poll_s = 0.2
        self.session_s = 60.0
        self.acquiring = self.deaf = self.doubled = False
        self.claims = 0
        self.garbled = ""
        self.late_admins = 0
        self.asked: list[str] = []
        self.rooms: list[int] = []
        self.admins: dict[str, tuple[str, float]] = {}
        self.registrations: dict[str, str] = {}
        forge.state.may = self._may

    @property
    def issued(self) -> list[str]:
        """Every token that was ever given."""
        return [*self.registrations, *self.admins, *(one.session.token for one in self.sets if one.session)]

    # What happens to jobs

    def tell(self, event: str, action: str, run: Run, job: Job | None) -> None:
        if event != "workflow_job" or job is None or action == "waiting":
            return
        with self.forge.state.changed:
            found = next((one for one in self.sets if self._is_for(one, run, job)), None)
            if found is None:
                return
            if action == "queued":
                (found.offered if self.acquiring else found.jobs).add(job.id)
            kind = {"queued": "JobAvailable" if self.acquiring else "JobAssigned", "in_progress": "JobStarted"}
            self._message(found, kind.get(action, "JobCompleted"), run, job)

    def _is_for(self, one: ScaleSet, run: Run, job: Job) -> bool:
        return job.labels == [one.name] and one.scope in (run.repository, run.repository.partition("/")[0])

    def _message(self, one: ScaleSet, kind: str, run: Run, job: Job) -> None:
        owner, _, repository = run.repository.partition("/")
        said = {
            "messageType": kind,
            "jobId": str(uuid.uuid5(uuid.NAMESPACE_OID, str(job.id))),
            "runnerRequestId": job.id * 7 if self.acquiring else 0,
            "ownerName": owner,
            "repositoryName": repository,
            "workflowRunId": run.id,
            "jobDisplayName": job.name,
            "eventName": run.event,
            "requestLabels": job.labels,
            "runnerName": job.runner.name if job.runner else "",
            "result": job.conclusion or "",
        }
        newest = max(one.messages, default=0)
        if newest > one.told and len(one.messages[newest]) < 50:
            one.messages[newest].append(said)
        else:
            one.messages[next(one.numbers)] = [said]
        self.forge.state.changed.notify_all()

    def _may(self, job: Job, record: Record) -> bool:
        holder = next((one for one in self.sets if job.id in one.jobs | one.offered), None)
        if holder is None:
            return record.set_id == 0
        return record.set_id == holder.id and job.id in holder.jobs

    def statistics(self, one: ScaleSet) -> dict[str, int]:
        alive = [job for number in one.jobs if (job := self.forge.state.jobs[number]).status != "completed"]
        running = sum(job.status == "in_progress" for job in alive)
        return {"totalAssignedJobs": len(alive) + self.claims, "totalRunningJobs": running}

    def forget_tokens(self) -> None:
        """All that was given of the service: both kinds of tokens are refused from now on."""
        self.admins = {token: (scope, -1.0) for token, (scope, _) in self.admins.items()}
        for one in self.sets:
            if one.session is not None:
                one.session.until_s = -1.0

    # The service's front

    def answer(self, method: str, path: str, query: dict[str, str], authorization: str, body: Any) -> Reply | None:
        """None: nothing comes."""
        for its_method, pattern, name, answers in _ROUTES:
            if its_method == method and (match := re.fullmatch(pattern, path)):
                with self.forge.state.lock:
                    self.asked.append(name)
                    trouble = due(self.forge.troubles, name)
                if trouble is not None and not trouble.lose:
                    return Reply(int(trouble.code), {"typeName": "ServerException", "message": "Server Error"})
                reply: Reply = answers(self, query, authorization, body, *match.groups())
                if name == self.garbled:
                    reply.body = {"surprise": reply.body}
                if trouble is None:
                    return reply
                return Reply(502, {"message": "Server Error"}) if trouble.code == "502" else None
        return Reply(404, {"typeName": "NotFound", "message": f"{method} {path}"})

    def register(self, scope: str) -> str:
        token = f"registration-token-{len(self.registrations)}"
        self.registrations[token] = scope
        return token

    def connect(self, query: dict[str, str], authorization: str, body: Any) -> Reply:
        scope = self.registrations.get(authorization.removeprefix("RemoteAuth "))
        if scope is None or body != {"url": f"{self.forge.url}/{scope}", "runner_event": "register"}:
            return Reply(401, {"message": "Bad credentials"})
        if self.late_admins:
            self.late_admins -= 1
            return Reply(403, {"message": "Forbidden"})
        until_s = self.forge.clock.monotonic() + ADMIN_S
        claims = {"exp": int(self.forge.clock.now().timestamp() + ADMIN_S), "n": len(self.admins)}
        packed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        token = f"admin.{packed}.seal"
        self.admins[token] = (scope, until_s)
        return Reply(200, {"url": f"{self.forge.url}/_actions/tenant/", "token": token})

    # Sets, as the site's administrator

    def listed(self, scope: str, query: dict[str, str], body: Any) -> Reply:
        found = [
            {"id": one.id, "name": one.name, "runnerGroupId": one.group_id}
            for one in self.sets
            if (one.scope, one.name, str(one.group_id)) == (scope, query.get("name"), query.get("runnerGroupId"))
        ]
        return Reply(200, {"count": len(found), "value": found})

    def make(self, scope: str, query: dict[str, str], body: Any) -> Reply:
        if body["labels"] != [{"name": body["name"], "type": "System"}] or not body["RunnerSetting"]["ephemeral"]:
            return Reply(400, {"typeName": "ArgumentException", "message": "not as the published client has it"})
        if any((one.scope, one.name) == (scope, body["name"]) for one in self.sets):
            return Reply(409, {"typeName": "RunnerScaleSetExistsException", "message": "exists"})
        self.sets.append(ScaleSet(self.forge.state.next_id(), body["name"], scope, body["runnerGroupId"]))
        return Reply(200, {"id": self.sets[-1].id, "name": body["name"]})

    def groups(self, scope: str, query: dict[str, str], body: Any) -> Reply:
        known = {"Default": 1, **self.forge.groups.get(scope, {})}
        found = [{"id": number, "name": name} for name, number in known.items() if name == query["groupName"]]
        return Reply(200, {"count": len(found), "value": found})

    def configure(self, scope: str, query: dict[str, str], body: Any, number: str) -> Reply:
        if (one := self._find(scope, number)) is None:
            return _no_set()
        made = self.forge.state.register(scope, body["name"], [one.name], one.group_id)
        if made is None:
            return Reply(409, {"typeName": "AgentExistsException", "message": "exists"})
        made.set_id = one.id
        runner = {"id": made.id, "name": made.name, "runnerScaleSetId": one.id}
        return Reply(200, {"runner": runner, "encodedJITConfig": routes.jit(self.forge, made)})

    # Sessions and their messages

    def begin(self, scope: str, query: dict[str, str], body: Any, number: str) -> Reply:
        if (one := self._find(scope, number)) is None:
            return _no_set()
        now_s = self.forge.clock.monotonic()
        if one.session and (one.session.polling or now_s - one.session.heard_s < self.session_s):
            name = "GitHub.Actions.Runtime.WebApi.RunnerScaleSetSessionConflictException"
            message = f"The actions runner scaleset {one.name} already has an active session."
            return Reply(409, {"typeName": name, "message": message})
        one.session = Session(str(uuid.uuid4()), f"queue-token-{uuid.uuid4()}", now_s + QUEUE_S, now_s)
        return Reply(200, self._told(one, one.session))

    def renew(self, scope: str, query: dict[str, str], body: Any, number: str, session: str) -> Reply:
        one = self._find(scope, number)
        if one is None or one.session is None or one.session.id != session:
            return _no_set()
        one.session.token = f"queue-token-{uuid.uuid4()}"
        one.session.until_s = self.forge.clock.monotonic() + QUEUE_S
        return Reply(200, self._told(one, one.session))

    def leave(self, scope: str, query: dict[str, str], body: Any, number: str, session: str) -> Reply:
        one = self._find(scope, number)
        if one is None or one.session is None or one.session.id != session:
            return _no_set()
        one.session = None
        return Reply(204)

    def _told(self, one: ScaleSet, session: Session) -> dict[str, Any]:
        url = f"{self.forge.url}/_actions/queue/{one.id}?sessionId={session.id}"
        told = {"sessionId": session.id, "messageQueueUrl": url, "messageQueueAccessToken": session.token}
        return {**told, "statistics": self.statistics(one)}

    def message(self, one: ScaleSet, query: dict[str, str], body: Any) -> Reply:
        """What has waited is told together, at most fifty."""
        last, session = int(query.get("lastMessageId", "0")), one.session
        assert session is not None
        session.polling += 1
        try:
            if not self._wait(lambda: one.session is not session or max(one.messages, default=0) > last):
                return Reply(202)
        finally:
            session.polling -= 1
            session.heard_s = self.forge.clock.monotonic()
        with self.forge.state.lock:
            number = min((n for n in one.messages if n > last), default=0)
            if one.session is not session or not number:
                return Reply(202)
            one.told = max(one.told, number)
            said = one.spoilt or json.dumps(one.messages[number])
            told = {"messageId": number, "messageType": "RunnerScaleSetJobMessages", "body": said}
            return Reply(200, {**told, "statistics": self.statistics(one)})

    def _wait(self, found: Callable[[], bool]) -> bool:
        until_s = time.monotonic() + self.poll_s
        with self.forge.state.changed:
            while not found() and not self.forge.stopping.is_set():
                if (left_s := until_s - time.monotonic()) <= 0:
                    return False
                self.forge.state.changed.wait(left_s)
        return not self.forge.stopping.is_set()

    def delete(self, one: ScaleSet, query: dict[str, str], body: Any, number: str) -> Reply:
        if self.deaf:
            return Reply(503, {"message": "Service Unavailable"})
        with self.forge.state.changed:
            said = one.messages.pop(int(number), None)
            one.deleted.append(int(number))
            if self.doubled and said is not None:
                self.doubled, one.messages[next(one.numbers)] = False, said
        return Reply(204)

    def acquire(self, one: ScaleSet, query: dict[str, str], body: Any) -> Reply:
        """Those that are still to be had."""
        with self.forge.state.changed:
            got = [number for number in body if number // 7 in one.offered]
            for number in got:
                job = self.forge.state.jobs[number // 7]
                one.offered.discard(job.id)
                one.jobs.add(job.id)
                self._message(one, "JobAssigned", self.forge.state.runs[job.run_id], job)
        return Reply(200, {"count": len(got), "value": got})

    def _find(self, scope: str, number: str) -> ScaleSet | None:
        return next((one for one in self.sets if one.scope == scope and one.id == int(number)), None)


def _no_set() -> Reply:
    return Reply(404, {"typeName": "RunnerScaleSetNotFoundException", "message": "No runner scale set found."})


Admin = Callable[..., Reply]


def _as_admin(answers: Admin) -> Admin:
    def inner(sets: ScaleSets, query: dict[str, str], authorization: str, body: Any, *groups: str) -> Reply:
        scope, until_s = sets.admins.get(authorization.removeprefix("Bearer "), ("", -1.0))
        if sets.forge.clock.monotonic() >= until_s:
            return Reply(401, {"message": "The token has expired."})
        if query.get("api-version") != "6.0-preview":
            return Reply(400, {"typeName": "VssVersionNotSpecifiedException", "message": "no version"})
        return answers(sets, scope, query, body, *groups)

    return inner


def _as_listener(answers: Admin) -> Admin:
    def inner(sets: ScaleSets, query: dict[str, str], authorization: str, body: Any, *groups: str) -> Reply:
        one = next((one for one in sets.sets if one.id == int(groups[0])), None)
        session = one.session if one is not None else None
        if one is None or session is None or authorization != f"Bearer {session.token}":
            return Reply(401, {"message": "The session is over."})
        if sets.forge.clock.monotonic() >= session.until_s or query.get("sessionId", session.id) != session.id:
            return Reply(401, {"message": "The message queue token has expired."})
        return answers(sets, one, query, body, *groups[1:])

    return inner


_SETS = "/tenant/_apis/runtime/runnerscalesets"
_ROUTES: tuple[tuple[str, str, str, Admin], ...] = (
    ("POST", "/runner-registration", "connect", ScaleSets.connect),
    ("GET", _SETS, "set", _as_admin(ScaleSets.listed)),
    ("POST", _SETS, "make", _as_admin(ScaleSets.make)),
    ("GET", "/tenant/_apis/runtime/runnergroups/", "groups", _as_admin(ScaleSets.groups)),
    ("POST", _SETS + r"/(\d+)/generatejitconfig", "configure", _as_admin(ScaleSets.configure)),
    ("POST", _SETS + r"/(\d+)/sessions", "session", _as_admin(ScaleSets.begin)),
    ("PATCH", _SETS + r"/(\d+)/sessions/([^/]+)", "renew", _as_admin(ScaleSets.renew)),
    ("DELETE", _SETS + r"/(\d+)/sessions/([^/]+)", "leave", _as_admin(ScaleSets.leave)),
    ("POST", _SETS + r"/(\d+)/acquirejobs", "acquire", _as_listener(ScaleSets.acquire)),
    ("GET", r"/queue/(\d+)", "message", _as_listener(ScaleSets.message)),
    ("DELETE", r"/queue/(\d+)/(\d+)", "confirm", _as_listener(ScaleSets.delete)),
)
