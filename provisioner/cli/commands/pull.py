"""`runner pull`: results here, verified, and never half a file.

A file grows as a hidden `.part` beside its place, is resumed where it broke, and takes its name once its hash is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from provisioner.cli import render
from provisioner.cli.amounts import shown_size
from provisioner.cli.client import Client, refusal
from provisioner.cli.embedded import again, another, connected
from provisioner.cli.failures import CliError, Unreachable

_CHUNK = 2**20
_TRIES = 5
_AT_ONCE = 16  # files under way at the same time; arbitrary


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
    files: list[dict[str, Any]] = manifest["files"]
    fetched = bring(client, f"/jobs/{job_id}/results/{told['attempt']}/files", files, top)
    if as_json:
        render.as_json([{"id": one["path"], **one} for one in files])
    state = "" if told["final"] else " so far; the job goes on"
    total = shown_size(sum(one["size"] for one in fetched))
    render.say(f"runner: {len(fetched)} of {len(files)} files fetched ({total}) into {top}{state}")


def bring(client: Client, prefix: str, files: Sequence[dict[str, Any]], top: Path) -> list[dict[str, Any]]:
    """Those that had to be fetched. None is, if any of them would be written elsewhere. Raises: CliError."""
    places = [_place(top, one["path"]) for one in files]
    stop, own = threading.Event(), threading.local()

    def one_file(one: dict[str, Any], place: Path) -> bool:
        if not hasattr(own, "client"):
            own.client = another(client.target)
        return _bring(own.client, prefix, one, place, stop)

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(files)))) as pool:
        under_way = [pool.submit(one_file, one, place) for one, place in zip(files, places, strict=True)]
        try:
            return [one for one, each in zip(files, under_way, strict=True) if each.result()]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _place(top: Path, path: str) -> Path:
    """Where a file goes. Raises: CliError when that is not below `top`, links on the way there included."""
    parts = path.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\0" in path:
        raise CliError(f"{path!r} would be written outside {top}", "nothing was fetched", 3)
    target = top.joinpath(*parts)
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(top)):
        raise CliError(f"{path!r} would be written outside {top}, through a link there", "nothing was fetched", 3)
    return target


def _bring(client: Client, prefix: str, one: dict[str, Any], target: Path, stop: threading.Event) -> bool:
    """Whether it had to be fetched."""
    mode = one.get("mode", 0o644) & 0o777
    try:
        if _is_there(target, one):
            target.chmod(mode)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name[:100]}.{one['sha256'][:16]}.part")
        _whole(client, f"{prefix}/{urllib.parse.quote(one['path'])}", part, one, stop)
        part.chmod(mode)
        part.replace(target)
    except OSError as error:
        raise CliError(f"cannot write {target}: {error.strerror}", "what was fetched is kept; pull again", 1) from error
    return True


def _is_there(target: Path, one: dict[str, Any]) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != one["size"]:
        return False
    return bool(_digest(target) == one["sha256"])


def _whole(client: Client, path: str, part: Path, one: dict[str, Any], stop: threading.Event) -> None:
    """Make `part` exactly the recorded bytes. Raises: CliError when several tries in a row brought nothing."""
    lost = 0
    while lost < _TRIES and not stop.is_set():
        had = _size(part)
        try:
            _fetch(client, path, part, one["size"], stop)
            if _digest(part) == one["sha256"]:
                return
            part.unlink()
        except Unreachable:
            again(client)
        lost = 0 if _size(part) > had else lost + 1
    raise CliError(f"{one['path']} does not arrive as it was recorded", "pull again; what verified is kept", 1)


def _fetch(client: Client, path: str, part: Path, size: int, stop: threading.Event) -> None:
    """Append what is missing. Raises: Unreachable when the transfer breaks, CliError when it is refused."""
    have = _size(part)
    if have == size and size:
        return
    wanted = {"Range": f"bytes={have}-"} if 0 < have < size else {}
    response = client.open("GET", path, None, wanted, timeout_s=300)
    if response.status in (302, 303, 307, 308):
        location = response.headers["Location"]
        response.read()
        response = _signed(location, wanted)
    if response.status >= 400:
        raise refusal(response)
    with part.open("ab" if response.status == 206 else "wb") as file:
        while not stop.is_set() and (data := _some(response, client)):
            file.write(data)
    if _size(part) < size:
        client.close()
        raise Unreachable("the transfer broke")


def _some(response: http.client.HTTPResponse, client: Client) -> bytes:
    try:
        return response.read(_CHUNK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        client.close()
        raise Unreachable(f"the transfer broke: {error}") from error


def _signed(url: str, wanted: dict[str, str]) -> http.client.HTTPResponse:
    """Straight from the object store, without credentials of ours."""
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(url, headers=wanted)
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=300)
    except urllib.error.HTTPError as error:
        raise Unreachable(f"the object store answered {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the object store does not answer: {error}") from error
    return answer


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()
