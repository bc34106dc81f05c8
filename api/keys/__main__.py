"""`python -m api.keys`: keys of all tenants, for the operator; without a verb it sees to a first one in its folder.

What is for programs goes to standard output (a key, a list), what is for people to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from api.db import Database
from api.errors import ServiceError
from api.keys import operating, repository
from api.keys.files import read_first_id, write_first
from api.keys.models import ApiKey
from api.settings import Settings


def main() -> int:
    """Do what the verb says; return the exit status."""
    asked, settings = _parsed(), Settings()
    address = make_url(settings.database)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        return _refuse(f"there is no service in {settings.data_dir}: no {address.database}")
    database = Database(settings.database)
    try:
        _VERBS[asked.verb](asked, settings, database)
    except ServiceError as error:
        return _refuse(error.message)
    except (OperationalError, ProgrammingError) as error:
        return _refuse(f"the database does not answer, or is of another version (difftune migrate): {error.orig}")
    finally:
        database.close()
    return 0


def _ensure(_: argparse.Namespace, settings: Settings, database: Database) -> None:
    path, told = operating.ensure_first(database, settings.data_dir)
    for line in told:
        _say(line)
    sys.stdout.write(f"{path}\n")


def _list(_: argparse.Namespace, __: Settings, database: Database) -> None:
    with database.read() as session:
        for key in repository.list_all(session):
            fields = ("id", "tenant_id", "name", "created_at", "expires_at", "revoked_at", "last_used_at")
            shown = {name: getattr(key, name) for name in fields} | {"state": _state(key)}
            sys.stdout.write(f"{json.dumps(shown)}\n")


def _add(asked: argparse.Namespace, _: Settings, database: Database) -> None:
    with database.write() as session:
        made = operating.add(session, tenant_id=asked.tenant, name=asked.name, expires_at=asked.expires_at)
    _say(f"{made.key.id} is a key of the tenant {asked.tenant}; this is the only time that it is shown:")
    sys.stdout.write(f"{made.token}\n")


def _rotate(asked: argparse.Namespace, settings: Settings, database: Database) -> None:
    with database.write() as session:
        made = operating.rotate(session, asked.key, overlap_s=asked.overlap_s)
    ends = f"ends in {asked.overlap_s:.0f} s" if asked.overlap_s else _ENDED.format(settings.key_cache_s)
    _say(f"{made.key.id} takes the place of {asked.key}, which {ends}; this is the only time that it is shown:")
    sys.stdout.write(f"{made.token}\n")
    if read_first_id(settings.data_dir) == asked.key:
        _say(f"it is in {write_first(settings.data_dir, made.token)} too")


def _revoke(asked: argparse.Namespace, settings: Settings, database: Database) -> None:
    with database.write() as session:
        key = operating.revoke(session, asked.key)
    _say(f"{key.id} ({key.name}) of the tenant {key.tenant_id} {_ENDED.format(settings.key_cache_s)}")


_ENDED = "is revoked: within {:.0f} s nothing is answered to it any more, and its streams end"
_VERBS = {"ensure": _ensure, "list": _list, "add": _add, "rotate": _rotate, "revoke": _revoke}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api.keys", description=__doc__)
    parser.set_defaults(verb="ensure")
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("list")
    add = verbs.add_parser("add")
    add.add_argument("--tenant", required=True)
    add.add_argument("--name", required=True)
    add.add_argument("--expires-at", type=float, help="Unix seconds.")
    rotate = verbs.add_parser("rotate")
    rotate.add_argument("key")
    rotate.add_argument("--overlap-s", type=float, default=0.0)
    verbs.add_parser("revoke").add_argument("key")
    asked = parser.parse_args()
    asked.verb = asked.verb or "ensure"
    return asked


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= time.time() else "valid"


def _say(line: str) -> None:
    sys.stderr.write(f"difftune: {line}\n")


def _refuse(message: str) -> int:
    _say(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
