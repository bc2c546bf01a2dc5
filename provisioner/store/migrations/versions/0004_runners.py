"""Records of runners at forges."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import metadata, runners

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[runners])
