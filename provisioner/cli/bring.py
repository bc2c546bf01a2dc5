"""Many results at once into a folder: verified, resumed, and none of them outside of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import render
from .client import Client
from .embedded import another
from .failures import CliError
from .fetch import Fetcher, file_sha256

_AT_ONCE = 16  # files under way at the same time; arbitrary
_LINKS_AT_ONCE = 500


def bring(client: Client, prefix: str, files: Sequence[dict[str, Any]], top: Path) -> list[dict[str, Any]]:
    """Those that had to be fetched. None is, if any of them would be written elsewhere. Raises: CliError."""
    places = _places(top, files)
    stop, own = threading.Event(), threading.local()
    links = _Links(another(client.target), prefix, [one["path"] for one in files])
    progress = render.Progress("fetching", sum(one["size"] for one in files))

    def one_file(one: dict[str, Any], place: Path) -> bool:
        if not hasattr(own, "fetcher"):
            own.fetcher = Fetcher(another(client.target), prefix, stop, progress.add)
        return _bring(own.fetcher, one, place, links)

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(files)))) as pool:
        under_way = [pool.submit(one_file, one, place) for one, place in zip(files, places, strict=True)]
        try:
            return [one for one, each in zip(files, under_way, strict=True) if each.result()]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            progress.end()


class _Links:
    """Where files can be had without asking for each: many are asked for at once, when the first of them is wanted."""

    def __init__(self, client: Client, prefix: str, paths: Sequence[str]) -> None:
        self._client = client
        self._prefix = prefix
        self._lock = threading.Lock()
        self._batch_of: dict[str, Sequence[str]] = {}
        self._known: dict[str, str] = {}
        self._none = False
        for first in range(0, len(paths), _LINKS_AT_ONCE):
            batch = paths[first : first + _LINKS_AT_ONCE]
            self._batch_of |= dict.fromkeys(batch, batch)

    def of(self, path: str) -> str:
        """ "" where the controller itself has to be asked."""
        with self._lock:
            if path not in self._known and not self._none:
                batch = self._batch_of[path]
                try:
                    found = self._client.post(f"{self._prefix}/links", {"paths": list(batch)})["links"]
                except CliError:
                    found = {}
                self._known |= found
                self._none = not found
            return self._known.pop(path, "")


def _places(top: Path, files: Sequence[dict[str, Any]]) -> list[Path]:
    """Where files go. Raises: CliError when one is not below `top`, links on the way there included."""
    real, checked = os.path.realpath(top), set[Path]()
    places = []
    for one in files:
        parts = one["path"].split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\0" in one["path"]:
            raise CliError(f"{one['path']!r} would be written outside {top}", "nothing was fetched", 3)
        target = top.joinpath(*parts)
        if target.parent not in checked and not Path(os.path.realpath(target.parent)).is_relative_to(real):
            raise CliError(
                f"{one['path']!r} would be written outside {top}, through a link there", "nothing was fetched", 3
            )
        checked.add(target.parent)
        places.append(target)
    return places


def _bring(fetcher: Fetcher, one: dict[str, Any], target: Path, links: _Links) -> bool:
    """Whether it had to be fetched."""
    mode = one.get("mode", 0o644) & 0o777
    try:
        if _is_there(target, one):
            target.chmod(mode)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name[:100]}.{one['sha256'][:16]}.part")
        fetcher.whole(one, part, links.of(one["path"]))
        part.chmod(mode)
        part.replace(target)
    except OSError as error:
        raise CliError(f"cannot write {target}: {error.strerror}", "what was fetched is kept; pull again", 1) from error
    return True


def _is_there(target: Path, one: dict[str, Any]) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != one["size"]:
        return False
    return bool(file_sha256(target) == one["sha256"])
