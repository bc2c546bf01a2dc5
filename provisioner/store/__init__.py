"""The database behind the Store port: SQLAlchemy Core on SQLite or PostgreSQL, no ORM."""
