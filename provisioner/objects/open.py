"""From a URL to its adapter. Nothing is contacted and no SDK is imported here."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.extras import installed_by
from provisioner.domain.ports import Objects

from .directory import DirectoryObjects
from .store import SCHEMES, ObstoreObjects


def open_objects(url: str) -> Objects:
    """A path or `file://` URL, else `s3://BUCKET/PREFIX`, `gs://...` or `az://...`. Raises: InvalidRequest."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in ("", "file"):
        return DirectoryObjects(local_path(url), foreign=open_foreign)
    if scheme not in SCHEMES:
        raise InvalidRequest(
            f"cannot keep objects in {scheme}://", hint=f"use a directory or one of {', '.join(SCHEMES)}"
        )
    if not urlsplit(url).netloc:
        raise InvalidRequest(f"{url!r} names no bucket", hint=f"write {scheme}://BUCKET/PREFIX")
    if scheme == "s3":
        if importlib.util.find_spec("boto3") is None:
            raise InvalidRequest("S3 needs boto3", hint=installed_by("aws"))
        from .s3 import S3Objects

        return S3Objects(url, foreign=open_foreign)
    return ObstoreObjects(url, foreign=open_foreign)


def open_foreign(source: str) -> tuple[Objects, str]:
    """The store that holds `source`, and the key or folder in it. Raises: InvalidRequest."""
    scheme = urlsplit(source).scheme if "://" in source else ""
    if scheme in ("", "file"):
        return open_objects("/"), str(local_path(source)).strip("/")
    parts = urlsplit(source)
    return open_objects(f"{scheme}://{parts.netloc}"), source.split("://", 1)[1].partition("/")[2].strip("/")


def local_path(url: str) -> Path:
    """The absolute path behind a path or `file://` URL; `..` and `.` are resolved by name alone."""
    text = unquote(urlsplit(url).path) if url.startswith("file://") else url
    if not text:
        raise InvalidRequest("an empty path cannot hold objects")
    return Path(os.path.abspath(Path(text).expanduser()))
