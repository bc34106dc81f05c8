from __future__ import annotations

import sqlite3
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.db import Database, _end_reading, checkpoint_wal


def test_a_reader_that_does_not_end_holds_up_no_writer_by_way_of_the_checkpoint(tmp_path: Path) -> None:
    """As a frozen worker: it may have been amid a read."""
    path = tmp_path / "rows.sqlite3"
    database, frozen = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")
    with database.write() as session:
        session.execute(text("CREATE TABLE t (n INTEGER)"))
    with frozen.read() as reading:
        assert reading.execute(text("SELECT count(*) FROM t")).scalar() == 0
        with database.write() as session:
            session.execute(text("INSERT INTO t VALUES (1)"))
        began = time.monotonic()
        checkpoint_wal(database)
        assert time.monotonic() - began < 7, "half of what a writer waits before it gives up"
    checkpoint_wal(database)
    assert path.with_name("rows.sqlite3-wal").stat().st_size == 0, "once the reader has ended, all is folded in"
    with database.read() as session:
        assert session.execute(text("PRAGMA busy_timeout")).scalar() == 15_000
    database.close()
    frozen.close()


def test_a_connection_that_is_given_back_after_the_end_is_closed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with database.read() as session:
        session.execute(text("SELECT 1"))
        raw = session.connection().connection.dbapi_connection
        database.close()
    assert raw is not None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw.execute("SELECT 1")
    with database.read() as session:
        assert session.scalar(text("SELECT 1")) == 1, "as a worker's and a test's go on to be used"
    database.close()


def test_what_every_connection_to_sqlite_is_told(tmp_path: Path) -> None:
    """WAL with the sweep's checkpoints alone, commits that survive a power cut, and references that are looked at."""
    database = Database(f"sqlite:///{tmp_path / 'rows.sqlite3'}")
    told = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 0, "busy_timeout": 15_000}
    for unit in (database.read, database.write):
        with unit() as session:
            assert {name: session.scalar(text(f"PRAGMA {name}")) for name in told} == told
    database.close()


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_reader_forgives_a_connection_that_is_gone_and_nothing_else(*, is_gone: bool) -> None:
    class Ended(Session):
        def close(self) -> None:
            raise OperationalError("ROLLBACK", None, Exception(), connection_invalidated=is_gone)

    with nullcontext() if is_gone else pytest.raises(OperationalError):
        _end_reading(Ended())
