"""The REST endpoints that the fake GitHub has. Each is (method, path, name, answer); a name is what troubles go by."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import reviews, shapes
from .apps import Who
from .reply import Reply, not_found, page, unfit
from .state import Record, Run

if TYPE_CHECKING:
    from .server import Exchange, FakeGitHub


@dataclass(frozen=True)
class Route:
    method: str
    pattern: str
    name: str
    answer: Callable[..., Reply]


def find(method: str, path: str) -> tuple[Route | None, tuple[str, ...]]:
    for route in ROUTES:
        if route.method == method and (match := re.fullmatch(route.pattern, path)):
            return route, match.groups()
    return None, ()


def _sees(forge: FakeGitHub, who: Who, scope: str) -> bool:
    owner = scope.partition("/")[0]
    known = scope in forge.state.repositories or (
        "/" not in scope and any(name.startswith(f"{owner}/") for name in forge.state.repositories)
    )
    return known and not who.app and who.account in ("", owner)


def _scoped(answer: Callable[..., Reply]) -> Callable[..., Reply]:
    """The first group is where: unknown to who may not see it, and elsewhere when it was renamed."""

    def inner(forge: FakeGitHub, who: Who, exchange: Exchange, scope: str, *groups: str) -> Reply:
        if scope in forge.moved:
            to = exchange.path.replace(f"/repos/{scope}", f"/repos/{forge.moved[scope]}")
            return Reply(307, {"message": "Moved", "url": to, "documentation_url": ""}, {"location": forge.url + to})
        return answer(forge, exchange, scope, *groups) if _sees(forge, who, scope) else not_found()

    return inner


# Apps


def installation(forge: FakeGitHub, who: Who, exchange: Exchange, scope: str) -> Reply:
    number = forge.accounts.installations.get(scope.partition("/")[0])
    if number is None or not who.app:
        return not_found()
    return Reply(200, shapes.complete(shapes.named("installation"), {"id": number}))


def access_token(forge: FakeGitHub, who: Who, exchange: Exchange, number: str) -> Reply:
    made = forge.accounts.issue(int(number)) if who.app else None
    if made is None:
        return not_found()
    return Reply(201, {"token": made[0], "expires_at": made[1], "permissions": {"administration": "write"}})


# Runners


def runners(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    name = exchange.query.get("name")
    found = [record for record in forge.state.listed(scope) if name in (None, record.name)]
    url = forge.url + exchange.path
    return page(url, exchange.query, found, lambda record: _runner(forge, record), "runners")


def _runner(forge: FakeGitHub, record: Record) -> Any:
    online = bool(record.session) and forge.clock.monotonic() - record.heard_s <= forge.offline_after_s
    return shapes.runner(record, online)


def one_runner(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    record = forge.state.find(scope, int(number))
    return not_found() if record is None else Reply(200, _runner(forge, record))


def remove(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    record = forge.state.find(scope, int(number))
    if record is None:
        return not_found()
    if record.name in forge.taken_in_between:
        forge.taken_in_between.discard(record.name)
        forge.state.take(record)
    if not forge.state.remove(record):
        return unfit(f'Runner "{record.name}" is currently running a job and cannot be deleted.')
    return Reply(204)


def register(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    body = exchange.body
    if not 1 <= len(body.get("labels", ())) <= 100 or not body.get("name"):
        return unfit("Invalid request: a name and 1 to 100 labels.")
    if body["runner_group_id"] not in _groups(forge, scope).values():
        return not_found()
    made = forge.state.register(scope, body["name"], body["labels"], body["runner_group_id"])
    if made is None:
        return Reply(409, {"message": "Already exists - A runner with the name already exists."})
    return Reply(201, {"runner": _runner(forge, made), "encoded_jit_config": jit(forge, made)})


def jit(forge: FakeGitHub, record: Record) -> str:
    settings = {"AgentId": record.id, "AgentName": record.name, "Ephemeral": True, "WorkFolder": "_work"}
    where = {"GitHubUrl": f"{forge.url}/{record.scope}", "ServerUrl": f"{forge.url}/_runner"}
    held = {".runner": settings | where, ".credentials": {"Scheme": "OAuth", "Data": {"token": record.token}}}
    files = {name: base64.b64encode(json.dumps(content).encode()).decode() for name, content in held.items()}
    return base64.b64encode(json.dumps(files).encode()).decode()


def registration_token(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    return Reply(201, {"token": forge.scale_sets.register(scope), "expires_at": "2026-11-21T10:00:00Z"})


def _groups(forge: FakeGitHub, scope: str) -> dict[str, int]:
    return {"Default": 1, **forge.groups.get(scope, {})}


def groups(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    def shape(pair: tuple[str, int]) -> Any:
        facts = {"id": pair[1], "name": pair[0], "default": pair[1] == 1, "visibility": "all"}
        schema = shapes.description()["paths"]["/orgs/{org}/actions/runner-groups"]["get"]["responses"]["200"]
        listed = schema["content"]["application/json"]["schema"]["properties"]["runner_groups"]["items"]
        return shapes.complete(listed, facts)

    return page(forge.url + exchange.path, exchange.query, list(_groups(forge, scope).items()), shape, "runner_groups")


def downloads(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    return Reply(
        200,
        [
            {
                "os": one.system,
                "architecture": one.machine,
                "download_url": f"{forge.url}/_downloads/v{one.version}/{one.file}",
                "filename": one.file,
                "sha256_checksum": one.sha256,
            }
            for one in forge.archives
        ],
    )


def deprecation(forge: FakeGitHub, exchange: Exchange, scope: str, version: str) -> Reply:
    found = forge.deprecations.get(version)
    return not_found() if found is None else Reply(200, {"runner_version": version, **found})


# Runs and jobs


def runs(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    with forge.state.lock:
        found = [run for run in reversed(forge.state.runs.values()) if run.repository == scope]
        status, created = exchange.query.get("status"), exchange.query.get("created", "")
        found = [run for run in found if status in (None, run.status) and _shows(forge, run)]
        if created.startswith("<="):
            found = [run for run in found if str(shapes.when(run.created_at)) <= created[2:]]
    url, most = forge.url + exchange.path, forge.most_found if status else 0
    return page(url, exchange.query, found, lambda run: shapes.run(run, forge.url), "workflow_runs", most)


def _shows(forge: FakeGitHub, run: Run) -> bool:
    return any(job.made_s <= forge.clock.monotonic() - forge.state.lag_s for job in run.latest)


def one_run(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    run = forge.state.runs.get(int(number))
    return Reply(200, shapes.run(run, forge.url)) if run is not None and run.repository == scope else not_found()


def run_jobs(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    run = forge.state.runs.get(int(number))
    if run is None or run.repository != scope:
        return not_found()
    every = exchange.query.get("filter") == "all"
    found = [job for jobs in run.jobs.values() for job in jobs] if every else run.latest
    url = forge.url + exchange.path
    return page(url, exchange.query, found, lambda job: shapes.job(job, run, forge.url), "jobs")


def one_job(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    job = forge.state.jobs.get(int(number))
    run = forge.state.runs[job.run_id] if job is not None else None
    if job is None or run is None or run.repository != scope:
        return not_found()
    return Reply(200, shapes.job(job, run, forge.url))


def rerun(forge: FakeGitHub, exchange: Exchange, scope: str, number: str) -> Reply:
    job = forge.state.jobs.get(int(number))
    if job is None or forge.state.runs[job.run_id].repository != scope:
        return not_found()
    if not forge.state.rerun(job):
        return Reply(403, {"message": "The workflow run containing this job is already running"})
    return Reply(201, {})


def repositories(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    found = [item for item in forge.state.repositories.items() if item[0].startswith(f"{scope}/")]
    url = forge.url + exchange.path
    return page(url, exchange.query, found, lambda item: shapes.repository(*item, forge.url))


# What people read


def user(forge: FakeGitHub, who: Who, exchange: Exchange) -> Reply:
    if who.app or who.installed:
        return Reply(403, {"message": "Resource not accessible by integration"})
    return Reply(
        200, shapes.complete(shapes.named("public-user"), reviews.user(reviews.ADA) | {"user_view_type": "public"})
    )


def comments(forge: FakeGitHub, exchange: Exchange, scope: str, rest: str) -> Reply:
    found = forge.reviews.of(f"{scope}/{rest}")
    return page(forge.url + exchange.path, exchange.query, found, lambda one: reviews.shaped(one, forge.url))


def add(forge: FakeGitHub, exchange: Exchange, scope: str, rest: str) -> Reply:
    body = exchange.body["body"]
    author = reviews.BOT if exchange.who is not None and exchange.who.installed else reviews.ADA
    if not body or len(body) > reviews.LONGEST:
        return unfit(f"Body is too long (maximum is {reviews.LONGEST} characters)")
    return Reply(201, reviews.shaped(forge.reviews.add(f"{scope}/{rest}", body, author), forge.url))


def edit(forge: FakeGitHub, exchange: Exchange, scope: str, issues: str | None, number: str) -> Reply:
    found = _comment(forge, scope, issues, number)
    if found is None:
        return not_found()
    if len(exchange.body["body"]) > reviews.LONGEST:
        return unfit("Body is too long")
    found.body = exchange.body["body"]
    return Reply(200, reviews.shaped(found, forge.url))


def drop(forge: FakeGitHub, exchange: Exchange, scope: str, issues: str | None, number: str) -> Reply:
    found = _comment(forge, scope, issues, number)
    if found is None:
        return not_found()
    forge.reviews.drop(found)
    return Reply(204)


def _comment(forge: FakeGitHub, scope: str, issues: str | None, number: str) -> reviews.Comment | None:
    found = forge.reviews.find(int(number))
    if found is None or ("/issues/" in found.on) != bool(issues) or not found.on.startswith(f"{scope}/"):
        return None
    return found


def check(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    body = exchange.body
    made = forge.reviews.check(body["head_sha"], body["name"], body["conclusion"], body["output"])
    facts = {"id": made.id, "name": made.name, "head_sha": made.sha, "status": "completed"}
    more = {"conclusion": made.conclusion, "html_url": f"{forge.url}/{scope}/runs/{made.id}"}
    return Reply(201, shapes.complete(shapes.named("check-run"), facts | more | {"output": made.output}))


def status(forge: FakeGitHub, exchange: Exchange, scope: str, sha: str) -> Reply:
    body = exchange.body
    if len(body.get("description", "")) > 140:
        return unfit("Validation Failed: description is too long (maximum is 140 characters)")
    made = forge.reviews.check(sha, body["context"], body["state"], {"title": body.get("description", "")})
    facts = {"id": made.id, "state": body["state"], "context": body["context"]}
    return Reply(201, shapes.complete(shapes.named("status"), facts))


# Webhooks


def hooks(forge: FakeGitHub, exchange: Exchange, scope: str) -> Reply:
    schema = shapes.named("hook" if "/" in scope else "org-hook")
    found = [one for one in forge.hooks.hooks if one.place == scope]

    def shape(one: Any) -> Any:
        facts = {"id": one.id, "active": True, "events": list(one.events), "name": "web", "type": "x"}
        return shapes.complete(schema, facts | {"config": {"url": one.url, "content_type": "json"}})

    return page(forge.url + exchange.path, exchange.query, found, shape)


def app_deliveries(forge: FakeGitHub, who: Who, exchange: Exchange) -> Reply:
    return _deliveries(forge, exchange, "", 0) if who.app else not_found()


def deliveries(forge: FakeGitHub, exchange: Exchange, scope: str, hook: str) -> Reply:
    return _deliveries(forge, exchange, scope, int(hook))


def _deliveries(forge: FakeGitHub, exchange: Exchange, place: str, number: int) -> Reply:
    hook = next((one for one in forge.hooks.hooks if one.place == place and number in (0, one.id)), None)
    if hook is None:
        return not_found()

    def shape(one: Any) -> Any:
        facts = {"id": one.id, "guid": one.guid, "event": one.event, "action": one.action, "status_code": one.status}
        told = "OK" if 200 <= one.status < 300 else "failed to connect to host"
        facts |= {"redelivery": one.redelivery, "status": told, "delivered_at": shapes.when(one.delivered_at)}
        return shapes.complete(shapes.named("hook-delivery-item"), facts)

    query = {**exchange.query, "page": exchange.query.get("cursor", "1")}
    reply = page(forge.url + exchange.path, query, forge.hooks.of(hook), shape)
    if "link" in reply.headers:
        reply.headers["link"] = re.sub(r"\bpage=(\d+)>", r"cursor=\1>", reply.headers["link"])
    return reply


def app_redeliver(forge: FakeGitHub, who: Who, exchange: Exchange, number: str) -> Reply:
    return _redeliver(forge, "", number) if who.app else not_found()


def redeliver(forge: FakeGitHub, exchange: Exchange, scope: str, hook: str, number: str) -> Reply:
    return _redeliver(forge, scope, number)


def _redeliver(forge: FakeGitHub, place: str, number: str) -> Reply:
    found = next((one for one in forge.hooks.sent if one.id == int(number) and one.hook.place == place), None)
    if found is None:
        return not_found()
    forge.hooks.again(found)
    return Reply(202, {})


_REPO = "/repos/([^/]+/[^/]+)"
_SITE = "/(?:repos|orgs)/([^/]+(?:/[^/]+)?)"
ROUTES = (
    Route("GET", "/user", "user", user),
    Route("GET", f"{_SITE}/installation", "installation", installation),
    Route("POST", r"/app/installations/(\d+)/access_tokens", "login", access_token),
    Route("GET", "/app/hook/deliveries", "deliveries", app_deliveries),
    Route("POST", r"/app/hook/deliveries/(\d+)/attempts", "redeliver", app_redeliver),
    Route("POST", f"{_SITE}/actions/runners/generate-jitconfig", "register", _scoped(register)),
    Route("POST", f"{_SITE}/actions/runners/registration-token", "registration", _scoped(registration_token)),
    Route("GET", f"{_SITE}/actions/runners/downloads", "downloads", _scoped(downloads)),
    Route("GET", f"{_SITE}/actions/runners/deprecations/([^/]+)", "deprecation", _scoped(deprecation)),
    Route("GET", f"{_SITE}/actions/runners", "runners", _scoped(runners)),
    Route("GET", f"{_SITE}/actions/runners/" + r"(\d+)", "runner", _scoped(one_runner)),
    Route("DELETE", f"{_SITE}/actions/runners/" + r"(\d+)", "remove", _scoped(remove)),
    Route("GET", "/orgs/([^/]+)/actions/runner-groups", "groups", _scoped(groups)),
    Route("GET", f"{_REPO}/actions/runs", "queued", _scoped(runs)),
    Route("GET", f"{_REPO}/actions/runs/" + r"(\d+)", "run", _scoped(one_run)),
    Route("GET", f"{_REPO}/actions/runs/" + r"(\d+)/jobs", "queued", _scoped(run_jobs)),
    Route("GET", f"{_REPO}/actions/jobs/" + r"(\d+)", "job", _scoped(one_job)),
    Route("POST", f"{_REPO}/actions/jobs/" + r"(\d+)/rerun", "rerun", _scoped(rerun)),
    Route("GET", "/orgs/([^/]+)/repos", "repositories", _scoped(repositories)),
    Route("GET", f"{_REPO}/(issues/" + r"\d+|commits/\w+)/comments", "comments", _scoped(comments)),
    Route("POST", f"{_REPO}/(issues/" + r"\d+|commits/\w+)/comments", "add", _scoped(add)),
    Route("PATCH", f"{_REPO}/(issues/)?comments/" + r"(\d+)", "edit", _scoped(edit)),
    Route("DELETE", f"{_REPO}/(issues/)?comments/" + r"(\d+)", "drop", _scoped(drop)),
    Route("POST", f"{_REPO}/check-runs", "check", _scoped(check)),
    Route("POST", f"{_REPO}/statuses/" + r"(\w+)", "status", _scoped(status)),
    Route("GET", f"{_SITE}/hooks", "hooks", _scoped(hooks)),
    Route("GET", f"{_SITE}/hooks/" + r"(\d+)/deliveries", "deliveries", _scoped(deliveries)),
    Route("POST", f"{_SITE}/hooks/" + r"(\d+)/deliveries/(\d+)/attempts", "redeliver", _scoped(redeliver)),
)
