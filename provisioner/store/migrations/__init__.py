"""Alembic's environment. One file a step in versions/, each telling why."""
