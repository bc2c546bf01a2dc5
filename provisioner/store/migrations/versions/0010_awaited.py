"""When somebody last said that they wait for a job's runner: a launch that was killed does not say so any more."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import awaited, metadata

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[awaited])
