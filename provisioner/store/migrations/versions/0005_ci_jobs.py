"""CI jobs as forges tell of them, and the webhooks that told."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import ci_jobs, deliveries, metadata

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[ci_jobs, deliveries])
