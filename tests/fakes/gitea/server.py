"""A Gitea or a Forgejo over HTTP: the API for people as far as forges use it, and where runners register.

It limits nobody, as they do: neither has limits of requests built in, and whoever wants some puts a proxy before it
(go-gitea/gitea issue 9559, open in 2026). `shut_until_s` is such a proxy's answer.

Source: go-gitea/gitea routers/api/v1 (shared/runners.go, shared/action.go), services/convert, 2026; forgejo
routers/api/v1/shared/runners.go and tests/integration/api_admin_actions_test.go, 2026.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from provisioner.domain.ports import Clock
from tests.fakes.forge_http import Answer, Asked, ForgeHttp, Refusal, Route
from tests.fakes.hand_clock import HandClock
from tests.fakes.hooks import Hooks

from . import webhooks
from .programs import Programs
from .state import DONE, Comment, Job, Repository, Runner, State, Status

TOKEN = "people-only-0123456789"
REGISTRATION = "register-anybody-9876543210"
ADA, MALLORY = 7, 8  # the users: whose the token is, and somebody else
SCOPE = "(/repos/[^/]+/[^/]+|/orgs/[^/]+|/user|/admin)/actions"
REPO = "/repos/([^/]+/[^/]+)"
_ZERO = "0001-01-01T00:00:00Z"
_OUTSIDE = {"waiting": "queued", "blocked": "pending", "running": "in_progress"}
_INSIDE = {"queued": ("waiting",), "pending": ("blocked",), "in_progress": ("running",), "completed": DONE}


class GiteaServer(ForgeHttp):
    """`version` decides what it can do: runners that can be disabled and reruns since 1.26, attempts as jobs of their
    own since 1.27. From 1.26 on jobs that need others are told of as `pending`, which began at some time before 1.27.
    A Forgejo's is like "15.0.2+gitea-1.22.0". `late_to_say_busy`: who is busy is told by when it was last heard of a
    job, and it was not yet. `hooks` are told of jobs."""

    api = "/api/v1"

    def __init__(self, clock: Clock | None = None, root: str = "", *, version: str = "1.27.3") -> None:
        self.state = State(clock or HandClock(), self._tell)
        self.hooks = Hooks(lambda: next(self.state.ids), self.state.clock.now, webhooks.headers, webhooks.EVENTS)
        self.version = version
        self.late_to_say_busy = False
        self.forgejo = "+gitea-" in version
        major, minor = version.split(".")[:2]
        self.number = (int(major), int(minor))
        super().__init__(self.state.clock, root)

    def routes(self) -> Sequence[Route]:
        both: list[Route] = [
            ("GET", "/version", lambda asked: {"version": self.version}),
            ("GET", "/user", lambda asked: {"id": ADA, "login": "ada", "is_admin": True}),
            ("GET", "/orgs/([^/]+)", self._org),
            ("GET", f"{SCOPE}/runners", self._runners),
            ("GET", f"{SCOPE}/runners/([0-9]+)", lambda asked: self.runner_json(self._runner(asked))),
            ("DELETE", f"{SCOPE}/runners/([0-9]+)", self._delete_runner),
            ("GET", f"{REPO}/issues/([0-9]+)/comments", self._comments),
            ("POST", f"{REPO}/issues/([0-9]+)/comments", self._add_comment),
            ("PATCH", f"{REPO}/issues/comments/([0-9]+)", self._edit_comment),
            ("DELETE", f"{REPO}/issues/comments/([0-9]+)", self._drop_comment),
            ("POST", f"{REPO}/statuses/([0-9a-f]+)", self._status),
            *Programs(self.state).routes(),
        ]
        from .forgejo import ForgejoRoutes

        return [*both, *(ForgejoRoutes(self).routes() if self.forgejo else self._gitea())]

    def _gitea(self) -> list[Route]:
        more: list[Route] = [
            ("POST", f"{SCOPE}/runners/registration-token", lambda asked: {"token": REGISTRATION}),
            ("POST", "/api/actions/runner.v1.RunnerService/Register", self._register),
            ("GET", f"{SCOPE}/jobs", self._jobs),
            ("GET", f"{REPO}/actions/jobs/([0-9]+)", lambda asked: self._job_json(self.job(asked))),
            ("GET", f"{REPO}/actions/runs/([0-9]+)", self._run),
            ("GET", f"{REPO}/actions/runs/([0-9]+)/jobs", self._jobs_of_run),
            ("GET", f"{REPO}/pulls/([0-9]+)", self._pull),
        ]
        if self.number >= (1, 26):
            more.append(("PATCH", f"{SCOPE}/runners/([0-9]+)", self._disable))
            more.append(("POST", f"{REPO}/actions/runs/([0-9]+)/jobs/([0-9]+)/rerun", self._rerun))
        return more

    def _tell(self, job: Job) -> None:
        if self.forgejo:
            return
        path, legacy = self.state.path_of(job), self.number < (1, 26)
        action = "waiting" if legacy and job.status == "blocked" else _OUTSIDE.get(job.status, "completed")

        def payload() -> Any:
            told = {"action": action, "workflow_job": {**self._job_json(job), "status": action}}
            return {**told, "repository": {"id": self.repository(path).id, "full_name": path}, "sender": {"id": ADA}}

        self.hooks.tell("workflow_job", action, path, payload)

    def __exit__(self, *more: object) -> None:
        self.hooks.stop()
        super().__exit__(*more)

    def let_in(self, asked: Asked) -> None:
        if "RunnerService" not in asked.path and asked.headers.get("authorization") != f"token {TOKEN}":
            raise Refusal(401, "user does not exist [uid: 0, name: ]")

    def repository(self, path: str) -> Repository:
        for one in self.state.repositories.values():
            if one.path == path:
                return one
        raise Refusal(404, "The target couldn't be found.")

    def _org(self, asked: Asked) -> Any:
        if asked.words[0] not in self.state.orgs:
            raise Refusal(404, "GetOrgByName")
        return {"id": 1, "name": asked.words[0], "username": asked.words[0]}

    def _register(self, asked: Asked) -> Any:
        """The Connect protocol in its JSON form: numbers of 64 bits are strings."""
        if asked.body.get("token") != REGISTRATION:
            raise Refusal(500, "runner registration token not found")
        made = self.make_runner(self.registers_for, asked.body["name"], asked.body.get("ephemeral", False))
        made.labels = list(asked.body.get("labels") or [])
        told = {"id": str(made.id), "uuid": made.uuid, "token": made.token, "name": made.name, "labels": made.labels}
        return {"runner": {**told, "ephemeral": made.ephemeral}}

    @property
    def registers_for(self) -> str:
        """A real token belongs to the scope that it was asked of; here all asked for the last one's."""
        asked = [one for one in self.asked if one.path.endswith("/registration-token")]
        return asked[-1].path.partition("/actions/")[0]

    def make_runner(self, scope: str, name: str, ephemeral: bool) -> Runner:
        number = next(self.state.ids)
        made = Runner(
            number, str(uuid.UUID(int=number << 64, version=4)), f"{number * 104729:040x}", name, scope, [], ephemeral
        )
        made.made_at_s = self.clock.monotonic()
        self.state.runners[number] = made
        return made

    def runner_json(self, runner: Runner) -> dict[str, Any]:
        busy = bool(self.state.running(runner)) and not self.late_to_say_busy
        if self.forgejo:
            status = "active" if busy else "idle" if self.state.online(runner) else "offline"
            told = {"id": runner.id, "uuid": runner.uuid, "name": runner.name, "status": status}
            return {**told, "labels": runner.labels, "ephemeral": runner.ephemeral, "description": ""}
        return {
            "id": runner.id,
            "name": runner.name,
            "status": "online" if self.state.online(runner) else "offline",
            "busy": busy,
            "disabled": runner.disabled,
            "ephemeral": runner.ephemeral,
            "labels": [{"id": n, "name": name, "type": "custom"} for n, name in enumerate(runner.labels)],
        }

    def _runners(self, asked: Asked) -> Any:
        """Gitea's has no Link header, and says how many there are in the body."""
        scope = asked.words[0]
        found = [
            self.runner_json(one)
            for one in sorted(self.state.runners.values(), key=lambda one: one.id)
            if scope in ("/admin", one.scope) and self.visible(one.made_at_s)
        ]
        page = self.page(asked, found, "limit", 50)
        if not self.forgejo:
            page.headers = {}
            page.body = {"runners": page.body, "total_count": len(found)}
        return page

    def _runner(self, asked: Asked) -> Runner:
        runner = self.state.runners.get(int(asked.words[1]))
        if runner is None or asked.words[0] not in ("/admin", runner.scope):
            raise Refusal(404, "Runner not found")
        return runner

    def _delete_runner(self, asked: Asked) -> Answer:
        """As the real ones: whether it has a job or not."""
        runner = self._runner(asked)
        for job in self.state.running(runner):
            self.state.become(job, "failure")
        del self.state.runners[runner.id]
        return Answer(status=204)

    def _disable(self, asked: Asked) -> Any:
        runner = self._runner(asked)
        runner.disabled = bool(asked.body["disabled"])
        return self.runner_json(runner)

    def job(self, asked: Asked) -> Job:
        job = self.state.jobs.get(int(asked.words[-1]))
        if job is None or self.state.path_of(job) != asked.words[0]:
            raise Refusal(404, "job not found")
        return job

    def _job_json(self, job: Job) -> dict[str, Any]:
        path, runner = self.state.path_of(job), self.state.runners.get(job.runner)
        return {
            "id": job.id,
            "url": f"{self.url}{self.api}/repos/{path}/actions/jobs/{job.id}",
            "html_url": f"{self.url}/{path}/actions/runs/{job.run}/jobs/{job.id}",
            "run_id": job.run,
            "name": job.name,
            "labels": job.labels,
            "run_attempt": job.attempt,
            "head_branch": "main" if self.state.runs[job.run].ref == "refs/heads/main" else "",
            "status": _OUTSIDE.get(job.status, "completed"),
            "conclusion": job.status if job.status in DONE else "",
            "runner_id": job.runner,
            "runner_name": runner.name if runner else "",
            "created_at": job.created_at,
            "started_at": _ZERO,
        }

    def _jobs(self, asked: Asked) -> Answer:
        wanted = {inside for status in asked.query.get("status", []) for inside in _INSIDE[status]}
        found = [
            one
            for one in sorted(self.state.jobs.values(), key=lambda one: one.id)
            if self.state.within(one, asked.words[0])
            and (not wanted or one.status in wanted)
            and self.visible(one.made_at_s)
        ]
        return self._listed(asked, found)

    def _listed(self, asked: Asked, found: list[Job]) -> Answer:
        page = self.page(asked, [self._job_json(one) for one in found], "limit", 50)
        page.body = {"jobs": page.body, "total_count": len(found)}
        return page

    def _run(self, asked: Asked) -> Any:
        run = self.state.runs.get(int(asked.words[1]))
        if run is None:
            raise Refusal(404, "run not found")
        jobs = [one for one in self.state.jobs.values() if one.run == run.id]
        ended = all(one.status in DONE for one in jobs)
        status = "completed" if ended else "in_progress"
        return {"id": run.id, "event": run.event, "path": f"ci.yml@{run.ref}", "status": status}

    def _jobs_of_run(self, asked: Asked) -> Answer:
        """Of the latest attempt."""
        jobs = [one for one in self.state.jobs.values() if one.run == int(asked.words[1])]
        latest = {one.name: max(other.attempt for other in jobs if other.name == one.name) for one in jobs}
        return self._listed(asked, [one for one in jobs if one.attempt == latest[one.name]])

    def _rerun(self, asked: Asked) -> Answer:
        job = self.job(asked)
        if any(one.run == job.run and one.status not in DONE for one in self.state.jobs.values()):
            raise Refusal(400, "this workflow run is not done")
        if self.number >= (1, 27):
            job = self.state.add_job(self.state.runs[job.run], job.name, job.labels, job.attempt + 1)
        else:
            job.runner = 0
            self.state.become(job, "waiting")
        return Answer(self._job_json(job), 201)

    def _pull(self, asked: Asked) -> Any:
        repository = self.repository(asked.words[0])
        for one in self.state.pulls:
            if (one.repository, str(one.number)) == (repository.id, asked.words[1]):
                head = {"repo": {"id": one.head} if one.head else None}
                return {"number": one.number, "head": head, "base": {"repo": {"id": repository.id}}}
        raise Refusal(404, "pull request not found")

    def said(self, path: str, number: str) -> list[Comment]:
        repository = self.repository(path)
        return [one for one in self.state.comments if (one.repository, one.number) == (repository.id, number)]

    def _comment_json(self, comment: Comment) -> dict[str, Any]:
        path = self.state.repositories[comment.repository].path
        url = f"{self.url}/{path}/issues/{comment.number}#issuecomment-{comment.id}"
        return {"id": comment.id, "body": comment.body, "html_url": url, "user": {"id": comment.author}}

    def _comments(self, asked: Asked) -> Any:
        """All of them at once: the listing has no pages."""
        return [self._comment_json(one) for one in self.said(*asked.words)]

    def say(self, path: str, number: str, body: str, author: int = ADA) -> Comment:
        made = Comment(next(self.state.ids), self.repository(path).id, number, body, author)
        self.state.comments.append(made)
        return made

    def _add_comment(self, asked: Asked) -> Answer:
        return Answer(self._comment_json(self.say(*asked.words, asked.body["body"])), 201)

    def _edit_comment(self, asked: Asked) -> Any:
        found = self._comment(asked)
        found.body = asked.body["body"]
        return self._comment_json(found)

    def _drop_comment(self, asked: Asked) -> Answer:
        self.state.comments.remove(self._comment(asked))
        return Answer(None, 204)

    def _comment(self, asked: Asked) -> Comment:
        for one in self.state.comments:
            if str(one.id) == asked.words[1]:
                return one
        raise Refusal(404, "comment not found")

    def _status(self, asked: Asked) -> Answer:
        if asked.body["state"] not in ("pending", "success", "error", "failure", "warning"):
            raise Refusal(400, "unknown CommitStatusState")
        made = Status(asked.words[1], asked.body["context"], asked.body["state"])
        self.state.statuses.append(made)
        return Answer({"id": 1, "status": made.state, "context": made.context}, 201)
