"""Hosts that somebody already has, and the SSH keys of machines."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import hosts, machine_keys, metadata

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[hosts, machine_keys])
