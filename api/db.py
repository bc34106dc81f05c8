"""Databases: SQLite for one machine, PostgreSQL for many, behind the same two verbs.

`write()` is one unit of work, committed at its end: on SQLite it opens with BEGIN IMMEDIATE, because a transaction that
reads first and writes later fails at once when another has written in between, whatever the busy timeout. `read()` is a
plain BEGIN, so that a reader never waits behind a writer.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Double, Engine, MetaData, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.functions import FunctionElement

_BUSY_TIMEOUT_MS = 15_000
_CHECKPOINT_TIMEOUT_MS = 100
_IDLE_S = 10.0
_POOL_SIZE = 10
_MAX_CONNECTIONS = 20
_POOL_TIMEOUT_S = 30.0
_LOCKED = "database is locked"  # SQLite's words for it
_BUSY_STATES = {"55P03", "25P03", "40P01"}  # PostgreSQL's: a lock not given, a transaction idle too long, a deadlock
_WRITES = "difftune_writes"
_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_DISK_FULL = "53100"  # PostgreSQL's code
_NAMES = {  # SQLite can change a constraint only where it has a name
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """All rows. Times are Unix seconds as floats, ids are strings of `api.ids`."""

    metadata = MetaData(naming_convention=_NAMES)


class epoch_now(FunctionElement[float]):  # noqa: N801  # an SQL function, named as SQL functions are
    """The database's own clock in Unix seconds: leases of all workers are judged by one clock."""

    type = Double()
    inherit_cache = True


@compiles(epoch_now, "sqlite")
def _epoch_now_sqlite(_element: epoch_now, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch_now, "postgresql")
def _epoch_now_postgresql(_element: epoch_now, _compiler: Any, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


class Database:
    """An engine and its two kinds of session."""

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = math.inf,
        patience_s: float | None = None,
        max_connections: int = _MAX_CONNECTIONS,
    ) -> None:
        """Connect lazily to `url` (SQLAlchemy form). A SQLite file's folder is made.

        A client that is frozen amid a transaction keeps its locks for a third of `lease_s` at most: it must cost nobody
        a lease. `patience_s`: how long to wait for a lock or a connection that others have, before an error that
        `is_busy` knows.
        """
        self.url = url
        self._watching: sqlite3.Connection | None = None  # only ever asked for its version
        self._is_closed = False
        pool: dict[str, Any] = {"pool_size": _POOL_SIZE, "max_overflow": max(0, max_connections - _POOL_SIZE)}
        pool["pool_timeout"] = _POOL_TIMEOUT_S if patience_s is None else patience_s
        if url.startswith("sqlite"):
            busy_ms = _BUSY_TIMEOUT_MS if patience_s is None else round(patience_s * 1000)
            self.engine = _sqlite_engine(url, busy_ms, pool)
        else:
            self.engine = _postgresql_engine(url, min(_IDLE_S, lease_s / 3), patience_s, pool)
        event.listen(self.engine, "checkin", self._close_late)

    def _close_late(self, connection: Any, entry: Any) -> None:
        """Close what comes back after the end: a disposed pool would keep it open until nobody refers to it."""
        if self._is_closed and connection is not None:
            entry.close()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open one unit of work: committed when the block ends, rolled back when it raises."""
        engine = self.engine.execution_options(**{_WRITES: True})
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view; nothing is ever committed. What was loaded stays readable afterwards."""
        session = Session(self.engine, expire_on_commit=False, autoflush=False)
        try:
            yield session
        finally:
            _end_reading(session)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.engine.dialect.name == "sqlite"

    def version(self) -> int | None:
        """A number that is another one once anybody has committed anything, for microseconds and never waited for.

        None where only a query could tell: on PostgreSQL, and while SQLite recovers its file. Of one thread.
        """
        if not self.is_sqlite:
            return None
        try:
            if self._watching is None:
                path = quote(str(self.engine.url.database))
                self._watching = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=0, check_same_thread=False)
            (number,) = self._watching.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return int(number)

    def close(self) -> None:
        """Close all connections, those in use as soon as they are given back."""
        self._is_closed = True
        self.engine.dispose()
        if self._watching is not None:
            self._watching.close()
            self._watching = None


def _end_reading(session: Session) -> None:
    """Close a session that wrote nothing; a connection that the server let go of meanwhile takes nothing with it.

    A process that a busy machine froze between its last query and the end of the block has all that it asked for.
    """
    try:
        session.close()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise


def is_full(error: Exception) -> bool:
    """Return whether a database had no room left to do what it was asked."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlite_errorcode", None) in _SQLITE_FULL or getattr(cause, "sqlstate", None) == _DISK_FULL


def is_busy(error: BaseException) -> bool:
    """Return whether an error says that others have the lock or all connections: a later try may well succeed."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return _LOCKED in str(error.orig) or getattr(error.orig, "sqlstate", None) in _BUSY_STATES


def _postgresql_engine(url: str, idle_s: float, patience_s: float | None, pool: dict[str, Any]) -> Engine:
    """Connections that a client who is frozen or cut off cannot misuse: what it has locked is free again soon."""
    options = f"-c idle_in_transaction_session_timeout={idle_s * 1000:.0f}"
    if patience_s is not None:
        options += f" -c lock_timeout={patience_s * 1000:.0f}"
    arguments = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "client_encoding": "utf8",  # also of a database that was made as SQL_ASCII, whose text psycopg leaves as bytes
        "options": options,
    }
    return create_engine(url, pool_pre_ping=True, connect_args=arguments, **pool)


def _sqlite_engine(url: str, busy_ms: int, pool: dict[str, Any]) -> Engine:
    database = make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"check_same_thread": False}, **pool)
    event.listen(engine, "connect", partial(_configure_sqlite, busy_ms=busy_ms))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any, *, busy_ms: int) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late and deferred
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {busy_ms}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged job survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    # SQLite before 3.51.3 can corrupt a file when two connections write and checkpoint at once (the WAL-reset bug):
    # one process, the sweep, does all checkpoints (`checkpoint_wal`).
    cursor.execute("PRAGMA wal_autocheckpoint = 0")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def checkpoint_wal(database: Database) -> None:
    """Fold SQLite's write-ahead log into the file; only one process of a stack may do this.

    It waits for readers of older states while it keeps writers out, so it waits briefly: a process frozen amid a read
    would else stop them all, again and again. What it could not fold in stays for the next time.
    """
    if database.is_sqlite:
        with database.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if raw is not None:
                connection.rollback()
                raw.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_TIMEOUT_MS}")
                try:
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    raw.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
