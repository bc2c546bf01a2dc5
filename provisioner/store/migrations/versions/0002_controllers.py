"""Several controllers on one database: who they are, and whom each has heard."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import controllers, heard, metadata

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[controllers, heard])
