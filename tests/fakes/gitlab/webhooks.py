"""What GitLab sends of a job, and along with it.

Source: docs.gitlab.com, user/project/integrations/webhooks (delivery headers, signing tokens) and webhook_events (job
events), 2026.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from tests.fakes.hooks import Sent

from .state import Job, State

EVENTS = ("Job Hook",)
SIGNING = "whsec_"  # what a signing token begins with


def headers(one: Sent, instance: str) -> dict[str, str]:
    """With the hook's secret itself, or signed with it where it is a signing token."""
    told = {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/18.5.0",
        "X-Gitlab-Event": one.event,
        "X-Gitlab-Webhook-UUID": f"{one.hook.id:08x}-0000-4000-8000-000000000000",
        "X-Gitlab-Instance": instance,
        "X-Gitlab-Event-UUID": one.guid[::-1],
        "Idempotency-Key": one.guid,
    }
    if not one.hook.secret.startswith(SIGNING):
        return {**told, "X-Gitlab-Token": one.hook.secret}
    at = str(int(one.delivered_at.timestamp()))
    key = base64.b64decode(one.hook.secret.removeprefix(SIGNING))
    digest = hmac.new(key, f"{one.guid}.{at}.".encode() + one.body, hashlib.sha256).digest()
    signed = {"webhook-id": one.guid, "webhook-timestamp": at}
    return {**told, **signed, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


def build(state: State, job: Job, url: str) -> dict[str, Any]:
    """A job event. It has no tags but its runner's, and `commit.id` is the pipeline's."""
    pipeline, project = state.pipelines[job.pipeline], state.projects[job.project]
    runner = state.runners.get(job.runner)
    created_at = job.created_at.replace("T", " ").partition(".")[0] + " UTC"
    place = {"name": project.path.rpartition("/")[2], "web_url": f"{url}/{project.path}"}
    return {
        "object_kind": "build",
        "ref": pipeline.ref,
        "tag": False,
        "before_sha": "0" * 40,
        "sha": "c0ffee00" * 5,
        "retries_count": 0,
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": "test",
        "build_status": job.status,
        "build_created_at": created_at,
        "build_started_at": None,
        "build_finished_at": None,
        "build_duration": None,
        "build_queued_duration": 0.5,
        "build_allow_failure": False,
        "build_failure_reason": "unknown_failure",
        "pipeline_id": pipeline.id,
        "runner": runner and _runner(runner.id, runner.description, runner.kind, runner.tags),
        "project_id": project.id,
        "project_name": project.path.replace("/", " / "),
        "user": {"id": 7, "name": "Ada", "username": "ada", "email": "[REDACTED]"},
        "commit": {"id": pipeline.id, "name": None, "sha": "c0ffee00" * 5, "status": job.status},
        "repository": {"name": place["name"], "homepage": place["web_url"], "visibility_level": 0},
        "project": {"id": project.id, **place, "path_with_namespace": project.path, "default_branch": "main"},
        "environment": None,
    }


def _runner(number: int, description: str, kind: str, tags: list[str]) -> dict[str, Any]:
    told = {"id": number, "description": description, "runner_type": kind, "active": True}
    return {**told, "is_shared": kind == "instance_type", "tags": tags}
