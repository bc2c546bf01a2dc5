"""CI jobs that runners were given, and which of them are to be run again."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import metadata, reruns

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[reruns])
