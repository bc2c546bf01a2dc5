"""What the runner programs of Gitea and Forgejo ask: Connect calls in their JSON form, by a runner's own credential.

Source: code.gitea.io/actions-proto-go, runner/v1; go-gitea/gitea routers/api/actions/runner, 2026.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.fakes.forge_http import Asked, Refusal, Route

from .state import Runner, State

_SERVICE = "/api/actions/runner.v1.RunnerService"
_RESULTS = {"RESULT_SUCCESS": "success", "RESULT_CANCELLED": "cancelled"}


class Programs:
    def __init__(self, state: State) -> None:
        self.state = state

    def routes(self) -> list[Route]:
        return [
            ("POST", f"{_SERVICE}/Declare", self._declare),
            ("POST", f"{_SERVICE}/FetchTask", self._fetch),
            ("POST", f"{_SERVICE}/UpdateTask", self._update),
        ]

    def _runner(self, asked: Asked) -> Runner:
        given = (asked.headers.get("x-runner-uuid"), asked.headers.get("x-runner-token"))
        for one in self.state.runners.values():
            if (one.uuid, one.token) == given:
                one.online_at_s = self.state.clock.monotonic()
                return one
        raise Refusal(401, "unregistered runner")

    def _declare(self, asked: Asked) -> Any:
        runner = self._runner(asked)
        runner.labels = [label.partition(":")[0] for label in asked.body["labels"]]
        return {"runner": {"id": str(runner.id), "name": runner.name}}

    def _fetch(self, asked: Asked) -> Any:
        """An ephemeral runner is given one."""
        runner = self._runner(asked)
        for job in self.state.jobs.values():
            if self.state.serves(runner, job):
                self.state.give(runner, job)
                payload = base64.b64encode(json.dumps({"steps": job.steps}).encode()).decode()
                context = {"repository": self.state.path_of(job), "run_id": str(job.run)}
                return {"task": {"id": str(job.id), "workflowPayload": payload, "context": context}}
        return {"tasksVersion": "0"}

    def _update(self, asked: Asked) -> Any:
        self._runner(asked)
        told = asked.body["state"]
        job = self.state.jobs[int(told["id"])]
        if told.get("result", "RESULT_UNSPECIFIED") != "RESULT_UNSPECIFIED":
            self.state.finish(job, _RESULTS.get(told["result"], "failure"))
        return {"state": told}
