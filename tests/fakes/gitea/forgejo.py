"""What a Forgejo answers otherwise than a Gitea does: runners made by the API, and jobs in words of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.forge_http import Answer, Asked, Refusal, Route

from .state import DONE, Job

if TYPE_CHECKING:
    from .server import GiteaServer


class ForgejoRoutes:
    def __init__(self, server: GiteaServer) -> None:
        self.server = server
        self.state = server.state

    def routes(self) -> list[Route]:
        from .server import REPO, SCOPE

        more: list[Route] = [
            ("GET", f"{SCOPE}/runners/jobs", self._jobs),
            ("GET", "/repositories/([0-9]+)", self._repository),
            ("GET", f"{REPO}/actions/runs", self._runs),
            ("GET", f"{REPO}/actions/runs/([0-9]+)", self._run),
        ]
        if self.server.number >= (15, 0):
            more.append(("POST", f"{SCOPE}/runners", self._make))
        if self.server.number >= (16, 0):
            more.append(("GET", f"{REPO}/actions/runs/([0-9]+)/jobs", self._jobs_of_run))
        if self.server.number >= (17, 0):
            more.append(("POST", f"{REPO}/actions/jobs/([0-9]+)/rerun", self._rerun))
        return more

    def _make(self, asked: Asked) -> Answer:
        """No labels: its program brings them."""
        made = self.server.make_runner(asked.words[0], asked.body["name"], bool(asked.body.get("ephemeral")))
        return Answer({"id": made.id, "uuid": made.uuid, "token": made.token}, 201)

    def _job_json(self, job: Job) -> dict[str, Any]:
        run, page = self.state.runs[job.run], f"{self.server.url}/{self.state.path_of(job)}/actions"
        return {
            "id": job.id,
            "run_id": job.run,
            "attempt": job.attempt,
            "repo_id": run.repository,
            "owner_id": 1,
            "name": job.name,
            "html_url": f"{page}/runs/{run.id}/jobs/0/attempt/{job.attempt}",
            "needs": None,
            "runs_on": job.labels,
            "task_id": 0,
            "status": job.status,
        }

    def _jobs(self, asked: Asked) -> Any:
        """Those that wait and those that run, all at once."""
        found = [
            one
            for one in sorted(self.state.jobs.values(), key=lambda one: -one.id)
            if one.status in ("waiting", "running")
            and self.state.within(one, asked.words[0])
            and self.server.visible(one.made_at_s)
        ]
        return [self._job_json(one) for one in found]

    def _jobs_of_run(self, asked: Asked) -> Any:
        return [self._job_json(one) for one in self.state.jobs.values() if one.run == int(asked.words[1])]

    def _repository(self, asked: Asked) -> Any:
        found = self.state.repositories.get(int(asked.words[0]))
        if found is None:
            raise Refusal(404, "The target couldn't be found.")
        return {"id": found.id, "full_name": found.path}

    def _runs(self, asked: Asked) -> Any:
        """The newest first."""
        number = self.server.repository(asked.words[0]).id
        found = [one.id for one in self.state.runs.values() if one.repository == number]
        page = self.server.page(asked, [{"id": one} for one in sorted(found, reverse=True)], "limit", 50)
        return {"workflow_runs": page.body, "total_count": len(found)}

    def _run(self, asked: Asked) -> Any:
        run = self.state.runs.get(int(asked.words[1]))
        if run is None:
            raise Refusal(404, "run not found")
        first = min(one.created_at for one in self.state.jobs.values() if one.run == run.id)
        return {
            "id": run.id,
            "event": run.event,
            "is_fork_pull_request": run.fork,
            "created": first,
            "prettyref": "main",
        }

    def _rerun(self, asked: Asked) -> Answer:
        job = self.server.job(asked)
        if any(one.run == job.run and one.status not in DONE for one in self.state.jobs.values()):
            raise Refusal(409, "workflow run is not done")
        job.runner, job.attempt = 0, job.attempt + 1
        self.state.become(job, "waiting")
        return Answer(status=204)
