"""Schema changes, in process: `upgrade(url)` is what every start calls first.

By hand: `python -m migrations.run {upgrade|check|examine|revision MESSAGE}` on the database of the settings.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from api import __version__
from api.db import Database
from api.findings import Finding, bad, examined, good, poor
from api.private import write_privately
from api.settings import Settings

_LOCK_TRIES = 60
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, when its lock_timeout is over

_CHECK = "database"
_TOLD = 2  # exit status: what stderr says is meant for people


class RevisionError(Exception):
    """The database is of another version of difftune; the message says which and what to do."""


_OLDEST_POSTGRESQL = 15


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to `revision`. Of processes that start at once, one migrates and the others wait.

    A migration that does not get a lock in time gives way, so that queries do not queue up behind it, and tries again.

    Raises:
        OperationalError: for some minutes it got none, or the database does not answer.
        RevisionError: the database is ahead of this version.
    """
    check_not_ahead(database_url)
    for attempt in range(_LOCK_TRIES):
        try:
            command.upgrade(_config(database_url), revision)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or attempt == _LOCK_TRIES - 1:
                raise
            time.sleep(random.uniform(0.5, 1.5))  # noqa: S311  # no secret
        else:
            return


def check_not_ahead(database_url: str) -> None:
    """Check that this version knows the database's revision, where there is one.

    Raises:
        RevisionError: a newer version has migrated it.
    """
    found = _revision(database_url)
    if found is not None and not knows(found):
        raise RevisionError(
            f"the database {_shown(database_url)} is at revision {found}, of a newer difftune than this one, which is "
            f"{__version__}: install that version, or restore a backup from before the upgrade"
        )


def check_current(database_url: str) -> None:
    """Check that the database is at this version's revision.

    Raises:
        RevisionError: it is older or newer, or holds no tables of difftune.
    """
    check_not_ahead(database_url)
    found, newest = _revision(database_url), _newest()
    if found != newest:
        raise RevisionError(
            f"the database {_shown(database_url)} is at revision {found or 'none'}, of an older difftune, and this "
            f"one, {__version__}, needs {newest}: back it up with the version that wrote it, or migrate it first "
            "(difftune migrate; difftune up does it at its start)"
        )


def knows(revision: str) -> bool:
    """Return whether this version has the revision among its own."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config("")).walk_revisions()}


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision` (`base` is the empty one)."""
    command.downgrade(_config(database_url), revision)


def check(database_url: str) -> None:
    """Compare the row classes with the database.

    Raises:
        alembic.util.CommandError: they differ, or the database is not at the newest revision.
    """
    command.check(_config(database_url))


def examine(database_url: str) -> Iterator[Finding]:
    """Find out whether the database answers and is at the newest revision."""
    url = make_url(database_url)
    where = url.render_as_string(hide_password=True)
    newest = _newest()
    if (
        make_url(database_url).get_backend_name() == "sqlite"
        and not Path(make_url(database_url).database or "").exists()
    ):
        yield good(_CHECK, f"{where} is made at the first start")
        return
    database = Database(database_url)
    try:
        with database.engine.connect() as connection:
            major = int((connection.dialect.server_version_info or (0,))[0])
            current = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        said = str(error.__cause__ or error).strip().splitlines()[0]
        yield bad(_CHECK, f"{where} does not answer: {said}", "Check DIFFTUNE_DATABASE_URL; does the database run?")
        return
    finally:
        database.close()
    if not database.is_sqlite and major < _OLDEST_POSTGRESQL:
        yield poor(_CHECK, f"PostgreSQL {major} is older than {_OLDEST_POSTGRESQL}, the oldest that is tested")
    if current == newest:
        yield good(_CHECK, f"{where} is at the newest revision, {newest}")
    else:
        advice = "difftune migrate, or a newer difftune if the database is ahead."
        yield bad(
            _CHECK, f"{where} is at revision {current or 'none'}, this version of difftune needs {newest}", advice
        )


def revise(database_url: str, message: str) -> None:
    """Write a new revision from what differs."""
    command.revision(_config(database_url), message, autogenerate=True)


def _newest() -> str:
    return str(ScriptDirectory.from_config(_config("")).get_current_head())


def _revision(database_url: str) -> str | None:
    """The database's revision; None where nothing of ours is there, not even a file."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    database = Database(database_url)
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()


def _shown(database_url: str) -> str:
    return make_url(database_url).render_as_string(hide_password=True)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["database_url"] = database_url
    return config


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m migrations.run", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("upgrade", help="bring the database to the newest revision")
    verbs.add_parser("check", help="compare the row classes with the database")
    verbs.add_parser("examine", help="what `difftune doctor` asks")
    verbs.add_parser("revision", help="write a new revision").add_argument("message")
    arguments = parser.parse_args()
    write_privately()
    url = Settings().database
    if arguments.verb == "revision":
        revise(url, arguments.message)
    elif arguments.verb == "examine":
        for finding in examined(_CHECK, lambda: examine(url)):
            sys.stdout.write(f"{finding.model_dump_json()}\n")
    else:
        try:
            {"upgrade": upgrade, "check": check}[arguments.verb](url)
        except RevisionError as error:
            sys.stderr.write(f"{error}\n")
            return _TOLD
    return 0


if __name__ == "__main__":
    sys.exit(_main())
