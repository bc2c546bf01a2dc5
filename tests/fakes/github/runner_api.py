"""What a stand-in for GitHub's runner program says to the fake forge. GitHub's own protocol is not published: this one
is ours, as small as it can be, and its statuses lead to the exit codes of the real program.

The JIT configuration is, as GitHub's is, base64 of a JSON object {file name: base64 of the file}:

    .runner        {"AgentId": 7, "AgentName": "runner-i-1", "Ephemeral": true, "WorkFolder": "_work",
                    "GitHubUrl": "http://HOST/OWNER/REPO", "ServerUrl": "http://HOST/_runner"}
    .credentials   {"Scheme": "OAuth", "Data": {"token": "..."}}

It is good for one session: a second one with it is refused, as is one whose record was removed. Every request carries
`Authorization: Bearer <token>`, bodies and answers are JSON, paths are below ServerUrl:

    POST   /sessions {"version": "2.330.0"}
           201 {"session": "s-7", "name": "runner-i-1", "labels": ["gpu-t4"]}   online and idle from now on
           401 the configuration is not good (any more): exit 1      409 a session is open already: exit 5
           426 this version is refused: exit 7
    GET    /sessions/s-7/job?wait_s=20        long poll, 50 s at most
           200 {"id": "12", "run_id": "3", "attempt": 1, "name": "train", "repository": "acme/vision", "ref": "main",
                "labels": ["gpu-t4"], "steps": [{"name": "train", "run": "python train.py"}], "env": {"CI": "true"}}
               the job is this runner's, which is busy from now on; asked again it is told the same job
           204 none yet: ask again                           401 the record was removed at the forge: exit 1
    GET    /jobs/12?wait_s=5                  while it runs, so that the forge knows that the runner lives
           200 {"cancelled": false}           true: end it as a runner does (SIGINT, then kill), and report `cancelled`
    POST   /jobs/12/end {"conclusion": "success", "steps": [{"name": "train", "exit_code": 0}]}
           success, failure or cancelled. 204; the runner is ephemeral: its record is gone, its program ends with 0
    DELETE /sessions/s-7
           204 offline; the record stays (an unused ephemeral one for a day)

A session that has not asked for anything for `FakeGitHub.offline_after_s` shows as offline; a job whose runner has not
asked for `FakeGitHub.lost_after_s` fails with the conclusion `failure`, as GitHub ends one that lost its runner.

The program's archive is at the address that `actions/runners/downloads` gives, with its sha256; a test puts it there
with `FakeGitHub.publish(archive, version, system="linux", machine="x64")`. What is in it is the stand-in's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .reply import Reply
from .state import Job, Record

if TYPE_CHECKING:
    from .server import FakeGitHub

_LONGEST_WAIT_S = 50.0


def answer(forge: FakeGitHub, method: str, path: str, query: dict[str, str], token: str, body: Any) -> Reply:
    record = next((one for one in forge.state.records if one.token == token and one.gone_s is None), None)
    if record is None:
        return Reply(401, {"message": "The runner registration has been deleted from the server."})
    record.heard_s = forge.clock.monotonic()
    forge.state.lose_the_silent(forge.lost_after_s)
    for its_method, pattern, answers in _ROUTES:
        if its_method == method and (match := re.fullmatch(pattern, path)):
            return answers(forge, record, query, body, *match.groups())
    return Reply(404)


def begin(forge: FakeGitHub, record: Record, query: dict[str, str], body: Any) -> Reply:
    if body["version"] in forge.refused_versions:
        return Reply(426, {"message": f"Runner version v{body['version']} is deprecated."})
    with forge.state.changed:
        if record.session:
            return Reply(409, {"message": "A session for this runner already exists."})
        record.session, record.version = f"s-{record.id}", body["version"]
        forge.state.changed.notify_all()
    return Reply(201, {"session": record.session, "name": record.name, "labels": record.labels})


def next_job(forge: FakeGitHub, record: Record, query: dict[str, str], body: Any, session: str) -> Reply:
    if session != record.session:
        return Reply(401, {"message": "There is no such session."})
    job = _waited(forge, query, lambda: record.gone_s is not None or forge.state.take(record))
    if record.gone_s is not None:
        return Reply(401, {"message": "The runner registration has been deleted from the server."})
    record.heard_s = forge.clock.monotonic()
    return Reply(200, _told(forge, job)) if isinstance(job, Job) else Reply(204)


def look(forge: FakeGitHub, record: Record, query: dict[str, str], body: Any, number: str) -> Reply:
    job = forge.state.jobs.get(int(number))
    if job is None or job.runner is not record:
        return Reply(404)
    job.heard_s = forge.clock.monotonic()
    _waited(forge, query, lambda: job.cancelled or job.status == "completed")
    record.heard_s = job.heard_s = forge.clock.monotonic()
    return Reply(200, {"cancelled": job.cancelled})


def end(forge: FakeGitHub, record: Record, query: dict[str, str], body: Any, number: str) -> Reply:
    job = forge.state.jobs.get(int(number))
    if job is None or job.runner is not record:
        return Reply(404)
    forge.state.end(job, body["conclusion"])
    return Reply(204)


def leave(forge: FakeGitHub, record: Record, query: dict[str, str], body: Any, session: str) -> Reply:
    """The configuration was good for this one session."""
    if session == record.session:
        record.session, record.token = "", f"{record.token} (used)"
    return Reply(204)


def _waited(forge: FakeGitHub, query: dict[str, str], found: Callable[[], Any]) -> Any:
    """What is found within the time that was asked for, or None."""
    wait_s = min(float(query.get("wait_s", "0")), _LONGEST_WAIT_S)
    until_s = forge.clock.monotonic() + wait_s
    with forge.state.changed:
        while not (result := found()):
            left_s = until_s - forge.clock.monotonic()
            if left_s <= 0 or forge.stopping.is_set():
                return None
            forge.state.changed.wait(min(left_s, 1.0))
        return result


def _told(forge: FakeGitHub, job: Job) -> dict[str, Any]:
    run = forge.state.runs[job.run_id]
    facts = {"id": str(job.id), "run_id": str(run.id), "attempt": job.attempt, "name": job.name, "ref": run.branch}
    return facts | {"repository": run.repository, "labels": job.labels, "steps": job.steps, "env": job.env}


_ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    ("POST", "/sessions", begin),
    ("GET", "/sessions/([^/]+)/job", next_job),
    ("DELETE", "/sessions/([^/]+)", leave),
    ("GET", r"/jobs/(\d+)", look),
    ("POST", r"/jobs/(\d+)/end", end),
)
