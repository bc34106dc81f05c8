"""Schema changes, in process: `upgrade(url)` is what every start calls first.

By hand: `python -m migrations.run {upgrade|check|revision MESSAGE}` on the database of the settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alembic import command
from alembic.config import Config

from api.settings import Settings


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to `revision`. Of processes that start at once, one migrates and the others wait."""
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision` (`base` is the empty one)."""
    command.downgrade(_config(database_url), revision)


def check(database_url: str) -> None:
    """Compare the row classes with the database.

    Raises:
        alembic.util.CommandError: they differ, or the database is not at the newest revision.
    """
    command.check(_config(database_url))


def revise(database_url: str, message: str) -> None:
    """Write a new revision from what differs."""
    command.revision(_config(database_url), message, autogenerate=True)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["database_url"] = database_url
    return config


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m migrations.run", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("upgrade", help="bring the database to the newest revision")
    verbs.add_parser("check", help="compare the row classes with the database")
    verbs.add_parser("revision", help="write a new revision").add_argument("message")
    arguments = parser.parse_args()
    url = Settings().database
    if arguments.verb == "revision":
        revise(url, arguments.message)
    else:
        {"upgrade": upgrade, "check": check}[arguments.verb](url)


if __name__ == "__main__":
    _main()
