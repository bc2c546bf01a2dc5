"""What a job left, as far as a report can use it: fetched from the controller into a folder, verified like any pull."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .bring import bring
from .client import Client
from .failures import CliError

_NUMBERS = (".json", ".yaml", ".yml", ".toml", ".tsv", ".csv", ".xml", ".md")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_LARGEST = {**dict.fromkeys(_NUMBERS, 16 * 2**20), **dict.fromkeys(_PICTURES, 10 * 2**20)}  # bytes; arbitrary
_MOST = 500  # files; arbitrary


def fetch_left(client: Client, job: str, top: Path) -> dict[str, Any]:
    """Record, readings, folder and notes, for `app.report`. What came before is not fetched again. Raises: CliError."""
    record: dict[str, Any] = client.get(f"/jobs/{job}")
    told = client.get(f"/jobs/{record['id']}/results")
    files = (told.get("manifest") or {}).get("files") or []
    folder = top / record["id"]
    folder.mkdir(parents=True, exist_ok=True)
    wanted, notes = _chosen(files)
    if wanted:
        bring(client, f"/jobs/{record['id']}/results/{told['attempt']}", wanted, folder)
    readings = [row[1] for row in client.get(f"/jobs/{record['id']}/readings")] if record.get("attempts") else []
    return {"record": record, "readings": readings, "folder": folder, "notes": notes}


def ended(left: dict[str, Any]) -> bool:
    return bool(left["record"]["phase"] == "done")


def _chosen(files: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    wanted, notes = [], []
    for one in files:
        suffix = "." + one["path"].rpartition(".")[2].lower()
        if suffix not in _LARGEST:
            continue
        if one["size"] > _LARGEST[suffix]:
            notes.append(f"{one['path']} has {one['size']} bytes: it is too large for a report")
        else:
            wanted.append(one)
    if len(wanted) > _MOST:
        notes.append(f"{len(wanted) - _MOST} of {len(wanted)} files were not looked at")
    return wanted[:_MOST], notes


class Published:
    """Images at the controller's object store: called with a file, it gives the address under which others see it.

    The same bytes are sent once and keep their address, so that a report that is drawn again is the same text.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, str] = {}

    def __call__(self, path: Path) -> str:
        """Raises: CliError."""
        import hashlib
        import urllib.parse

        try:
            data = path.read_bytes()
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            name = urllib.parse.quote(path.name[-80:], safe="")
            response = self._client.open(
                "PUT", f"/published/{digest}/{name}", data, {"Content-Type": "application/octet-stream"}
            )
            self._known[digest] = _address(response)
        return self._known[digest]


def _address(response: Any) -> str:
    import json

    from .client import refusal

    if response.status >= 400:
        raise refusal(response)
    return str(json.loads(response.read())["url"])
