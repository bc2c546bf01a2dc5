"""What a runner program of this family needs to be a runner: the text of its `.runner` file.

The file makes the program that one runner and no other: no registration token ever leaves the controller.
Source: act_runner and forgejo-runner, internal/pkg/config/registration.go, 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.domain.errors import ForgeRefused, ForgeUnreachable
from provisioner.domain.forge import Registration, RunnerOrder


def registration(base: str, order: RunnerOrder, made: Any) -> Registration:
    """`made` is the record with its id, uuid and token. Jobs run on the machine itself: every label is NAME:host."""
    told: Mapping[str, Any] = made if isinstance(made, dict) else {}
    if not all(told.get(name) for name in ("id", "uuid", "token")):
        raise ForgeUnreachable("a runner was made, and what it needs was not given")
    text = {
        "id": int(told["id"]),
        "uuid": str(told["uuid"]),
        "name": order.name,
        "token": str(told["token"]),
        "address": base,
        "labels": [f"{label}:host" for label in order.labels],
        "ephemeral": True,
    }
    return Registration(str(told["id"]), order.name, json.dumps(text))


def check(labels: Sequence[str]) -> None:
    """Raises: ForgeRefused."""
    if not labels:
        raise ForgeRefused("a runner without labels is given no job that names any", hint="give it labels")
    if wrong := [label for label in labels if ":" in label or "," in label or label != label.strip()]:
        raise ForgeRefused(f"no runner can have the label {wrong[0][:80]!r}", hint="a label has no : and no comma")
