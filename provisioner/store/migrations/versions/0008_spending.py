"""What machines that are gone have cost, by owner and period, so that a budget need not sum the ledger; and an index of
those that live."""

from __future__ import annotations

from alembic import op

from provisioner.store.schema import instances, metadata, spending
from provisioner.store.spending import settle

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[spending])
    living = next(index for index in instances.indexes if index.name == "instances_living")
    living.create(op.get_bind(), checkfirst=True)
    settle(op.get_bind())
