"""CI jobs by the order of their changes, so that only what has changed need be read."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, inspect

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """A database that was made anew has it from the first migration on."""
    if any(column["name"] == "changed" for column in inspect(op.get_bind()).get_columns("ci_jobs")):
        return
    op.add_column("ci_jobs", Column("changed", BigInteger, nullable=False, server_default="0"))
    op.create_index("ci_jobs_changed", "ci_jobs", ["changed"])
