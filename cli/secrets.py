"""`difftune secrets`: passwords and keys of a stack of containers, random, each in files for the one who needs it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from api.addresses import in_url
from cli.printing import tell
from cli.service import AsJson
from cli.settings import failed

commands = typer.Typer(name="secrets", help="Passwords and keys of a stack of containers.", no_args_is_help=True)

_BYTES = 32
_USER = "difftune"
_APP = ("database_url", "broker_url", "s3_access_key_id", "s3_secret_access_key")
Folder = Annotated[Path, typer.Argument(help="Has, or gets, a folder for each of app, db, redis and store.")]


@commands.command("make")
def make(folder: Folder, as_json: AsJson = False) -> None:
    """Make the files that are missing, mode 0600. What is there stays, so this may run at every start."""
    try:
        made = write_secrets(folder)
    except OSError as error:
        raise failed(f"{error.filename or folder}: {error.strerror}") from None
    tell({"made": made}, f"{folder}: {', '.join(made) if made else 'everything is there'}", as_json=as_json)


@commands.command("show")
def show(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address of this stack's machine as other machines see it.")],
) -> None:
    """What a worker on another machine must know: the addresses of database, Redis and store, as an env file."""
    try:
        known = {name: (folder / "app" / f"difftune_{name}").read_text(encoding="ascii").strip() for name in _APP}
    except OSError as error:
        raise failed(f"{error.filename}: {error.strerror}") from None
    host = in_url(host)
    for name, value in known.items():
        typer.echo(f"DIFFTUNE_{name.upper()}={value.replace('@db:', f'@{host}:').replace('@redis:', f'@{host}:')}")
    typer.echo(f"DIFFTUNE_STORE_URL=s3://difftune\nDIFFTUNE_S3_ENDPOINT_URL=http://{host}:8333")


def write_secrets(folder: Path) -> list[str]:
    """Write what is missing below `folder`; the names of what was. A secret's second file is made from its first."""
    made: list[str] = []

    def ensure(name: str, content: Callable[[], str]) -> str:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, content())
            made.append(name)
        return path.read_text(encoding="ascii").strip()

    password = ensure("db/password", _random)
    ensure("app/difftune_database_url", lambda: f"postgresql+psycopg://{_USER}:{password}@db:5432/{_USER}")
    redis = ensure("redis/password", _random)
    ensure("redis/redis.conf", lambda: _redis_conf(redis))
    ensure("app/difftune_broker_url", lambda: f"redis://:{redis}@redis:6379/0")
    key_id = ensure("app/difftune_s3_access_key_id", lambda: secrets.token_hex(10))
    key = ensure("app/difftune_s3_secret_access_key", _random)
    ensure("store/s3.json", lambda: _store_conf(key_id, key))
    return made


def _random() -> str:
    return secrets.token_hex(_BYTES)


def _redis_conf(password: str) -> str:
    """Write Redis's config, which keeps nothing on disk: a lost message costs no more than a poll interval."""
    return f'requirepass {password}\nsave ""\nappendonly no\ndir /tmp\nmaxmemory 128mb\nmaxmemory-policy noeviction'


def _store_conf(key_id: str, key: str) -> str:
    credentials = [{"accessKey": key_id, "secretKey": key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": _USER, "credentials": credentials, "actions": actions}]})


def _write(path: Path, content: str) -> None:
    """Whole or not at all; of two that race, the first wins."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{content}\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
