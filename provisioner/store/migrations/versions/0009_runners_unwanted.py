"""Since when a runner's record is to go, so that a forge that does not answer holds no machine up for ever."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Double, inspect

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """A database that was made anew has it from the first migration on."""
    if any(column["name"] == "unwanted_at" for column in inspect(op.get_bind()).get_columns("runners")):
        return
    op.add_column("runners", Column("unwanted_at", Double))
