"""`runner pull`: results here, verified, and never half a file."""

from __future__ import annotations

import hashlib
import os
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from provisioner.cli import render
from provisioner.cli.amounts import shown_size
from provisioner.cli.client import Client
from provisioner.cli.embedded import again, another, connected
from provisioner.cli.failures import CliError, Unreachable, from_answer

_CHUNK = 2**20
_TRIES = 5
_AT_ONCE = 16


@click.command()
@click.argument("job")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--attempt", type=int, help="Of this attempt (default: the newest that has results).")
@click.option("--json", "as_json", is_flag=True)
def command(job: str, folder: Path | None, attempt: int | None, as_json: bool) -> None:
    """Bring a job's outputs here. Running it again fetches only what is missing."""
    client = connected()
    job_id = client.get(f"/jobs/{job}")["id"]
    told = client.get(f"/jobs/{job_id}/results", attempt=attempt)
    manifest = told.get("manifest")
    if not manifest:
        raise CliError(f"{job_id} has no results yet", "it has them once an output was synced", 1)
    top = folder or Path(job_id)
    fetched = _bring_all(client.target, job_id, told["attempt"], manifest["files"], top)
    if as_json:
        render.as_json([{"id": one["path"], **one} for one in manifest["files"]])
    state = "" if told["final"] else " so far; the job goes on"
    total = shown_size(sum(one["size"] for one in fetched))
    render.say(f"runner: {len(fetched)} of {len(manifest['files'])} files fetched ({total}) into {top}{state}")


def _bring_all(target: str, job_id: str, attempt: int, files: list[dict[str, Any]], top: Path) -> list[dict[str, Any]]:
    """Those that had to be fetched; several at once, each thread over a connection of its own."""
    own = threading.local()

    def bring(one: dict[str, Any]) -> bool:
        if not hasattr(own, "client"):
            own.client = another(target)
        return _bring(own.client, job_id, attempt, one, top)

    with ThreadPoolExecutor(min(_AT_ONCE, len(files) or 1)) as pool:
        return [one for one, fetched in zip(files, pool.map(bring, files), strict=True) if fetched]


def _bring(client: Client, job_id: str, attempt: int, one: dict[str, Any], top: Path) -> bool:
    """Whether it had to be fetched."""
    target = Path(os.path.normpath(top / one["path"]))
    if os.path.isabs(one["path"]) or not str(target).startswith(str(Path(os.path.normpath(top)))):
        raise CliError(f"{one['path']!r} would leave {top}", "nothing was written there", 3)
    if target.is_file() and target.stat().st_size == one["size"] and _digest(target) == one["sha256"]:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    path = f"/jobs/{job_id}/results/{attempt}/files/{urllib.parse.quote(one['path'])}"
    for _ in range(_TRIES):
        try:
            _fetch(client, path, part, one["size"])
        except Unreachable:
            again(client)
            continue
        if _digest(part) == one["sha256"]:
            part.chmod(one.get("mode", 0o644) & 0o777)
            part.replace(target)
            return True
        part.unlink()
    raise CliError(f"{one['path']} does not arrive as it was recorded", "try again; what verified is kept", 1)


def _fetch(client: Client, path: str, part: Path, size: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        if have > size:
            part.unlink()
            have = 0
        elif have:
            return
    response = client.open("GET", path, None, {"Range": f"bytes={have}-"} if have else {}, timeout_s=300)
    if response.status in (302, 307):
        location = response.headers["Location"]
        response.read()
        response = _signed(location, have)
    if response.status >= 400:
        raise from_answer(response.status, None)
    with part.open("ab" if response.status == 206 else "wb") as file:
        try:
            while data := response.read(_CHUNK):
                file.write(data)
        except OSError as error:
            client.close()
            raise Unreachable(f"the transfer broke: {error}") from error


def _signed(url: str, have: int) -> Any:
    """Straight from the object store, without credentials of ours."""
    import urllib.request

    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=300)
    except OSError as error:
        raise Unreachable(f"the object store does not answer: {error}") from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()
