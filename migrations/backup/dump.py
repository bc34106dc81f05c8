"""A consistent copy of the database in one file, taken while the service runs, and back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from sqlalchemy import MetaData, Table, func, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from api.db import Database
from migrations.backup.manifest import BackupError

T = TypeVar("T")
SQLITE, POSTGRESQL = "database.sqlite3", "database.pgdump"


def dump(url: str, folder: Path, look: Callable[[Session], T]) -> tuple[Path, T]:
    """Write the dump into `folder`; its path, and what `look` sees in the very same state of the rows.

    Raises:
        BackupError: the database's tool is not installed, or failed.
    """
    if url.startswith("sqlite"):
        path = folder / SQLITE
        _copy_sqlite(_file_of(url), path)
        database = Database(f"sqlite:///{path}")
        try:
            with database.read() as session:
                seen = look(session)
        finally:
            database.close()
        _fold(path)
        return path, seen
    path = folder / POSTGRESQL
    database = Database(url)
    try:
        with database.read() as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
            _postgresql("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", f"--file={path}")
            return path, look(session)
    finally:
        database.close()


def check_database(url: str) -> None:
    """Check that there is a database.

    Raises:
        BackupError: there is no such file.
    """
    if url.startswith("sqlite") and not _file_of(url).exists():
        raise BackupError(f"there is no database {_file_of(url)}")


def restore(url: str, path: Path) -> None:
    """Bring a dump into an empty database.

    Raises:
        BackupError: it is not empty, or of another kind than the dump.
    """
    kind = SQLITE if url.startswith("sqlite") else POSTGRESQL
    if path.name != kind:
        raise BackupError(f"{path.name} cannot be restored into {make_url(url).render_as_string()}")
    if _tables(url):
        raise BackupError(f"the database {make_url(url).render_as_string()} is not empty: restore into a new one")
    if kind == SQLITE:
        _copy_sqlite(path, _file_of(url))
    else:
        _postgresql("pg_restore", url, "--no-owner", "--single-transaction", "--exit-on-error", str(path))


def count_rows(session: Session) -> dict[str, int]:
    """Rows by table, of whatever tables there are."""
    connection = session.connection()
    names = sorted(inspect(connection).get_table_names())
    tables = [Table(name, MetaData(), autoload_with=connection) for name in names]
    return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def revision_of(session: Session) -> str:
    """The newest migration that the tables have seen."""
    return str(session.scalar(text("SELECT version_num FROM alembic_version")))


def _tables(url: str) -> list[str]:
    if url.startswith("sqlite") and not _file_of(url).exists():
        return []
    database = Database(url)
    try:
        return inspect(database.engine).get_table_names()
    finally:
        database.close()


def _file_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database by SQLite's own backup: a copy of the file would miss what is still in its log."""
    if not source.exists():
        raise BackupError(f"there is no database {source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    aside.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old, closing(sqlite3.connect(aside)) as new:
        old.backup(new)
        fault = new.execute("PRAGMA integrity_check").fetchone()[0]
    if fault != "ok":
        raise BackupError(f"the database {source} is damaged: {fault}")
    _fold(aside)
    aside.replace(target)


def _fold(path: Path) -> None:
    """Fold the log into the file, so that there is one file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _postgresql(tool: str, url: str, *arguments: str) -> None:
    if shutil.which(tool) is None:
        raise BackupError(f"{tool} is not installed: PostgreSQL's client, not older than the server")
    parsed = make_url(url)
    environment = {**os.environ, **({"PGPASSWORD": str(parsed.password)} if parsed.password else {})}
    plain = parsed._replace(drivername="postgresql", password=None).render_as_string()
    command = [tool, f"--dbname={plain}", "--no-password", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    if done.returncode != 0:
        raise BackupError(f"{tool} failed: {done.stderr.strip()[-1000:]}")
