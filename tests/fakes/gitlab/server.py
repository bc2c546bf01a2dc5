"""A GitLab over HTTP: its API for people, as far as forges use it, and what its runners' program asks.

Source: docs.gitlab.com, api/runners, api/users (create a runner), api/jobs, 2026; lib/api/ci/runners.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from provisioner.domain.ports import Clock
from tests.fakes.forge_http import Answer, Asked, ForgeHttp, Refusal, Route, who
from tests.fakes.hand_clock import HandClock
from tests.fakes.hooks import Hooks, Sent

from . import webhooks
from .limits import Limits
from .said import Said
from .state import Job, Project, Runner, State

TOKEN = "glpat-people-only"
_KINDS = {"project_type": "project_id", "group_type": "group_id", "instance_type": ""}


class GitLabServer(ForgeHttp):
    """`old`: records of runners as older versions give them, without what a runner is doing. `limits` are those of
    GitLab.com; `hooks` are told of jobs."""

    api = "/api/v4"
    total_header = "X-Total"

    def __init__(self, clock: Clock | None = None, root: str = "", *, old: bool = False) -> None:
        self.state = State(clock or HandClock(), self._tell)
        self.limits = Limits(self.state.clock)
        self.hooks = Hooks(lambda: next(self.state.ids), self.state.clock.now, self._headers, webhooks.EVENTS)
        self.said = Said(self.state, self.page)
        self.old = old
        super().__init__(self.state.clock, root)

    def routes(self) -> Sequence[Route]:
        return (
            ("GET", "/projects/([^/]+)", lambda asked: self._project_json(self._project(asked.words[0]))),
            ("GET", "/groups/([^/]+)", self._show_group),
            ("GET", "/groups/([^/]+)/projects", self._projects_of_group),
            ("GET", "/projects", self._projects),
            ("POST", "/user/runners", self._create_runner),
            ("GET", "/runners/all", self._runners),
            ("GET", "/(?:projects|groups)/([^/]+)/runners", self._runners),
            ("GET", "/runners/([0-9]+)", lambda asked: self._details(self._runner(asked.words[0]))),
            ("PUT", "/runners/([0-9]+)", self._update_runner),
            ("DELETE", "/runners/([0-9]+)", lambda asked: self._remove(self._runner(asked.words[0]))),
            ("DELETE", "/runners", self._unregister),
            ("GET", "/runners/([0-9]+)/jobs", self._jobs_of_runner),
            ("GET", "/projects/([^/]+)/jobs", self._jobs),
            ("GET", "/projects/([^/]+)/jobs/([0-9]+)", lambda asked: self._job_json(self._job(asked))),
            ("POST", "/projects/([^/]+)/jobs/([0-9]+)/retry", self._retry),
            ("GET", "/projects/([^/]+)/pipelines/([0-9]+)/jobs", self._jobs_of_pipeline),
            ("GET", "/projects/([^/]+)/merge_requests/([0-9]+)", self._merge_request),
            *self.said.routes(self._project),
            ("POST", "/jobs/request", self._request_job),
            ("PUT", "/jobs/([0-9]+)", self._update_job),
        )

    def let_in(self, asked: Asked) -> None:
        if asked.path == "/jobs/request" or asked.name.startswith("PUT /jobs/") or asked.name == "DELETE /runners":
            return  # those check the runner's own token
        given = asked.headers.get("private-token") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if given != TOKEN:
            raise Refusal(401, "401 Unauthorized")

    def weigh(self, asked: Asked) -> Answer | None:
        return self.limits.weigh(self._who(asked), asked)

    def limit_headers(self, asked: Asked) -> dict[str, str]:
        return self.limits.headers(self._who(asked), asked)

    def _who(self, asked: Asked) -> str:
        return who(asked) or str(asked.body.get("token") if isinstance(asked.body, dict) else "")

    def _tell(self, job: Job) -> None:
        path = self.state.projects[job.project].path
        self.hooks.tell("Job Hook", job.status, path, lambda: webhooks.build(self.state, job, self.url))

    def _headers(self, one: Sent) -> dict[str, str]:
        return webhooks.headers(one, self.url)

    def __exit__(self, *more: object) -> None:
        self.hooks.stop()
        super().__exit__(*more)

    def _project(self, word: str) -> Project:
        for one in self.state.projects.values():
            if word in (str(one.id), one.path):
                return one
        raise Refusal(404, "404 Project Not Found")

    def _project_json(self, project: Project) -> dict[str, Any]:
        return {
            "id": project.id,
            "path_with_namespace": project.path,
            "web_url": f"{self.url}/{project.path}",
            "archived": project.archived,
            "jobs_enabled": project.builds,
            "builds_access_level": "enabled" if project.builds else "disabled",
        }

    def _show_group(self, asked: Asked) -> Any:
        for one in self.state.groups.values():
            if asked.words[0] in (str(one.id), one.path):
                return {"id": one.id, "full_path": one.path, "web_url": f"{self.url}/groups/{one.path}"}
        raise Refusal(404, "404 Group Not Found")

    def _projects_of_group(self, asked: Asked) -> Answer:
        group = self._show_group(asked)["full_path"]
        deep = asked.one("include_subgroups") == "true"
        return self._listed(
            asked,
            [
                one
                for one in self.state.projects.values()
                if one.path.rpartition("/")[0] == group or (deep and one.path.startswith(group + "/"))
            ],
        )

    def _projects(self, asked: Asked) -> Answer:
        return self._listed(asked, list(self.state.projects.values()))

    def _listed(self, asked: Asked, found: list[Project]) -> Answer:
        if asked.one("archived") == "false":
            found = [one for one in found if not one.archived]
        return self.page(asked, [self._project_json(one) for one in found], "per_page", 100)

    def _create_runner(self, asked: Asked) -> Answer:
        body, kind = asked.body, asked.body.get("runner_type")
        if kind not in _KINDS:
            raise Refusal(400, "runner_type does not have a valid value")
        tags = body.get("tag_list") or []
        tags = tags.split(",") if isinstance(tags, str) else tags
        if not tags and not body.get("run_untagged", True):
            raise Refusal(400, "Tags list can not be empty when runner is not allowed to pick untagged jobs")
        if 0 < (body.get("maximum_timeout") or 0) < 600:
            raise Refusal(400, "Maximum timeout needs to be at least 10 minutes")
        owner = int(body.get(_KINDS[kind]) or 0) if _KINDS[kind] else 0
        if kind != "instance_type" and owner not in {**self.state.projects, **self.state.groups}:
            raise Refusal(404, "404 Not Found")
        number = next(self.state.ids)
        made = Runner(
            number,
            kind,
            owner,
            str(body.get("description") or ""),
            f"glrt-t{number}_{number * 7919:020d}",
            sorted({tag.strip() for tag in tags}),
            bool(body.get("run_untagged", True)),
            bool(body.get("locked", False)),
            body.get("maximum_timeout"),
            bool(body.get("paused", False)),
            made_at_s=self.clock.monotonic(),
        )
        self.state.runners[number] = made
        return Answer({"id": number, "token": made.token, "token_expires_at": None}, 201)

    def _runner(self, word: str) -> Runner:
        if int(word) not in self.state.runners:
            raise Refusal(404, "404 Runner Not Found")
        return self.state.runners[int(word)]

    def _runners(self, asked: Asked) -> Answer:
        """A project's: its own, its groups' and the instance's, unless a type is asked for."""
        kind = asked.one("type")
        reach: set[int] | None = None
        if asked.words:
            named = asked.path.startswith("/projects/")
            owner = self._project(asked.words[0]) if named else None
            path = owner.path if owner else str(self._show_group(asked)["full_path"])
            reach = {one.id for one in self.state.groups.values() if f"{path}/".startswith(one.path + "/")}
            reach |= {owner.id} if owner else set()
        found = [
            self._brief(one)
            for one in sorted(self.state.runners.values(), key=lambda one: -one.id)
            if (not kind or one.kind == kind)
            and (reach is None or one.kind == "instance_type" or one.owner in reach)
            and self.visible(one.made_at_s)
        ]
        return self.page(asked, found, "per_page", 100)

    def _brief(self, runner: Runner) -> dict[str, Any]:
        """No tags here; what it does, only in newer versions."""
        status = self.state.status(runner)
        told: dict[str, Any] = {
            "id": runner.id,
            "description": runner.description,
            "paused": runner.paused,
            "active": not runner.paused,
            "is_shared": runner.kind == "instance_type",
            "runner_type": runner.kind,
            "online": status == "online",
            "status": status,
        }
        if not self.old:
            told["job_execution_status"] = "active" if self.state.running(runner) else "idle"
        return told

    def _details(self, runner: Runner) -> dict[str, Any]:
        more = {"tag_list": runner.tags, "run_untagged": runner.run_untagged, "locked": runner.locked}
        return {**self._brief(runner), **more, "maximum_timeout": runner.maximum_timeout}

    def _update_runner(self, asked: Asked) -> Any:
        runner = self._runner(asked.words[0])
        runner.paused = bool(asked.body.get("paused", runner.paused))
        return self._details(runner)

    def _unregister(self, asked: Asked) -> Answer:
        """By whoever has its token, in the query or in JSON, as its own program sends it. Source: lib/api/ci/runner.rb;
        gitlab-runner, network/gitlab.go, 2026."""
        token = asked.body.get("token") or asked.one("token")
        if not token:
            raise Refusal(400, "token is missing")
        return self._remove(self._of_token(token))

    def _remove(self, runner: Runner) -> Answer:
        """As the real one: a runner that has a job goes too, and its job is lost."""
        for job in self.state.running(runner):
            self.state.become(job, "failed")
        del self.state.runners[runner.id]
        return Answer(status=204)

    def _jobs_of_runner(self, asked: Asked) -> Answer:
        runner, status = self._runner(asked.words[0]), asked.one("status")
        found = [
            self._job_json(one)
            for one in self.state.jobs.values()
            if one.runner == runner.id and status in ("", one.status)
        ]
        return self.page(asked, found, "per_page", 100)

    def _jobs(self, asked: Asked) -> Answer:
        project, scopes = self._project(asked.words[0]), asked.query.get("scope[]", [])
        if not project.builds:
            raise Refusal(403, "403 Forbidden")
        found = [
            one
            for one in sorted(self.state.jobs.values(), key=lambda one: -one.id)
            if one.project == project.id and (not scopes or one.status in scopes) and self.visible(one.made_at_s)
        ]
        if asked.one("pagination") != "keyset":
            return self.page(asked, [self._job_json(one) for one in found], "per_page", 100)
        return self._keyset(asked, found)

    def _keyset(self, asked: Asked, found: list[Job]) -> Answer:
        """Pages that begin below an id: what goes meanwhile moves nothing."""
        rest = [one for one in found if not asked.one("cursor") or one.id < int(asked.one("cursor"))]
        here = rest[: min(int(asked.one("per_page", "20")), 100)]
        headers = {}
        if len(here) < len(rest):
            more = {**asked.query, "cursor": [str(here[-1].id)]}
            headers["Link"] = f'<{self.url}{self.api}{asked.path}?{urlencode(more, doseq=True)}>; rel="next"'
        return Answer([self._job_json(one) for one in here], headers=headers)

    def _job(self, asked: Asked) -> Job:
        project, number = self._project(asked.words[0]), int(asked.words[1])
        job = self.state.jobs.get(number)
        if job is None or job.project != project.id:
            raise Refusal(404, "404 Not Found")
        return job

    def _job_json(self, job: Job) -> dict[str, Any]:
        pipeline, project = self.state.pipelines[job.pipeline], self.state.projects[job.project]
        runner = self.state.runners.get(job.runner)
        return {
            "id": job.id,
            "status": job.status,
            "stage": "test",
            "name": job.name,
            "ref": pipeline.ref,
            "created_at": job.created_at,
            "tag_list": job.tags,
            "web_url": f"{self.url}/{project.path}/-/jobs/{job.id}",
            "pipeline": {
                "id": pipeline.id,
                "project_id": project.id,
                "ref": pipeline.ref,
                "source": pipeline.source,
            },
            "runner": runner and {"id": runner.id, "description": runner.description},
            "project": {"ci_job_token_scope_enabled": False},
        }

    def _retry(self, asked: Asked) -> Answer:
        job = self._job(asked)
        if job.retried or job.status not in ("success", "failed", "canceled"):
            raise Refusal(403, "403 Forbidden - Job is not retryable")
        job.retried = True
        again = self.state.add_job(self.state.pipelines[job.pipeline], job.name, job.tags)
        return Answer(self._job_json(again), 201)

    def _jobs_of_pipeline(self, asked: Asked) -> Answer:
        project, every = self._project(asked.words[0]), asked.one("include_retried") == "true"
        found = [
            self._job_json(one)
            for one in sorted(self.state.jobs.values(), key=lambda one: -one.id)
            if (one.project, one.pipeline) == (project.id, int(asked.words[1])) and (every or not one.retried)
        ]
        return self.page(asked, found, "per_page", 100)

    def _merge_request(self, asked: Asked) -> Any:
        project = self._project(asked.words[0])
        for one in self.state.merge_requests:
            if (one.project, one.iid) == (project.id, int(asked.words[1])):
                return {"iid": one.iid, "source_project_id": one.source, "target_project_id": one.project}
        raise Refusal(404, "404 Not found")

    def _of_token(self, token: object) -> Runner:
        runner = next((one for one in self.state.runners.values() if one.token == token), None)
        if runner is None:
            raise Refusal(403, "403 Forbidden")
        return runner

    def _request_job(self, asked: Asked) -> Answer:
        """A runner's program: being asked is being seen. Source: lib/api/ci/runner.rb, 2026."""
        runner = self._of_token(asked.body.get("token"))
        runner.contacted = self.clock.monotonic()
        for job in self.state.jobs.values():
            if self.state.serves(runner, job):
                self.state.give(runner, job)
                steps = [{"name": "script", "script": job.script}]
                told = {"id": job.id, "token": f"job-{job.id}", "variables": self._variables(job), "steps": steps}
                return Answer(told, 201)
        return Answer(status=204)

    def _variables(self, job: Job) -> list[dict[str, Any]]:
        """Source: docs.gitlab.com, ci/variables/predefined_variables, 2026."""
        told = {
            "CI_PROJECT_PATH": self.state.projects[job.project].path,
            "CI_PIPELINE_ID": str(job.pipeline),
            "CI_JOB_ID": str(job.id),
            "CI_JOB_NAME": job.name,
        }
        return [{"key": key, "value": value, "public": True, "masked": False} for key, value in told.items()]

    def _update_job(self, asked: Asked) -> Answer:
        job = self.state.jobs[int(asked.words[0])]
        if asked.body.get("token") != f"job-{job.id}":
            raise Refusal(403, "403 Forbidden")
        self.state.become(job, str(asked.body["state"]))
        return Answer(True)
