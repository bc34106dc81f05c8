"""How a migration runs: one transaction, one process at a time, and never waiting long for a lock."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, event

from api.db import Database
from api.rows import metadata

_ONE_AT_A_TIME = 0x64_69_66_66  # PostgreSQL advisory lock; any constant of our own
_LOCK_TIMEOUT = "2s"  # an ALTER that waits makes all other queries wait behind it


def _lock(connection: Connection) -> None:
    """SQLite's write unit has locked the file already."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(f"the migration leaves broken references: {broken[:5]}")


def _run() -> None:
    database = Database(context.config.attributes["database_url"])
    if database.is_sqlite:
        # Batch operations rebuild tables: with foreign keys on, dropping the old one would delete the rows below it.
        event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = OFF"))
    try:
        with database.write() as session:
            connection = session.connection()
            _lock(connection)
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_as_batch=database.is_sqlite,
                compare_server_default=True,
            )
            context.run_migrations()
            _check_references(connection)
    finally:
        database.close()


_run()
