"""What a machine is told in its user-data, with the files unpacked that its boot command carries."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import yaml


def files_of(text: str) -> dict[str, str]:
    """By name."""
    (command,) = yaml.safe_load(text)["bootcmd"]
    found: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(command[-1])))
    return found


def config_of(text: str) -> dict[str, Any]:
    """The agent's."""
    found: dict[str, Any] = json.loads(files_of(text)["config.json"])
    return found


def all_said(text: str) -> str:
    """Its own text and that of its files, to search in. With the join token, or it was not read at all."""
    told = "\n".join([text, *files_of(text).values()])
    assert config_of(text)["join_token"] in told.removeprefix(text)
    return told
