"""`difftune keys`: who may use a service. For its operator, where its database is reached; no key is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.card import moment
from cli.printing import tell
from cli.settings import EmbeddedDataDir, failed, need, read_settings

commands = typer.Typer(name="keys", help="API keys and tenants of a service, for its operator.", no_args_is_help=True)

_UNITS_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_COLUMNS = "{:<30}  {:<16}  {:<20}  {:<8}  {:<16}  {:<16}  {:<16}"
AsJson = Annotated[bool, typer.Option("--json", help="As JSON; `list` a line a key.")]
Key = Annotated[str, typer.Argument(help="Id of a key (key_...), as `list` shows it.")]


@commands.command("list")
def list_keys(data_dir: EmbeddedDataDir = None, as_json: AsJson = False) -> None:
    """Show the keys of all tenants; never the keys themselves, of which only hashes are kept."""
    lines = _run(data_dir, "list").splitlines()
    if as_json:
        typer.echo("\n".join(lines))
        return
    typer.echo(_COLUMNS.format("KEY", "TENANT", "NAME", "STATE", "CREATED", "EXPIRES", "LAST USED").rstrip())
    for key in map(json.loads, lines):
        times = (_day(key["created_at"]), _day(key["expires_at"]), _day(key["last_used_at"]))
        typer.echo(_COLUMNS.format(key["id"], key["tenant_id"], key["name"], key["state"], *times).rstrip())


@commands.command("add")
def add_key(
    tenant: Annotated[str, typer.Option(help="Whose key; a tenant is there from its first key on.")],
    name: Annotated[str, typer.Option(help="What it is for.")],
    expires: Annotated[str | None, typer.Option(help="A date (2027-01-31), or in how long: 12h, 30d, 8w.")] = None,
    data_dir: EmbeddedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    until = [] if expires is None else ["--expires-at", str(_moment(expires))]
    made = _run(data_dir, "add", "--tenant", tenant, "--name", name, *until).strip()
    tell({"key": made, "tenant_id": tenant, "name": name}, made, as_json=as_json)


@commands.command("rotate")
def rotate_key(
    key: Key,
    overlap: Annotated[str | None, typer.Option(help="How long the old one works on: 12h, 2d. Without: not.")] = None,
    data_dir: EmbeddedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key in place of another, with its tenant, name and end, and print it, this once."""
    longer = [] if overlap is None else ["--overlap-s", str(_duration_s(overlap))]
    made = _run(data_dir, "rotate", key, *longer).strip()
    tell({"key": made, "in_place_of": key}, made, as_json=as_json)


@commands.command("revoke")
def revoke_key(key: Key, data_dir: EmbeddedDataDir = None, as_json: AsJson = False) -> None:
    """End a key for good, with the streams that were opened with it. Jobs and data of its tenant stay."""
    _run(data_dir, "revoke", key)
    if as_json:
        tell({"id": key, "revoked": True}, "", as_json=True)


def _run(data_dir: Path | None, *arguments: str) -> str:
    """Run the module in a process of its own: this command knows nothing of databases.

    What it says goes on to standard error.
    """
    need("api")
    settings = read_settings(data_dir)
    environment = {**os.environ, "DIFFTUNE_DATA_DIR": str(settings.data_dir.expanduser().resolve())}
    argv = [sys.executable, "-m", "api.keys", *arguments]
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  # ours
    if done.returncode:
        raise typer.Exit(1)
    return done.stdout


def _moment(text: str) -> float:
    try:
        stated = datetime.fromisoformat(text)
    except ValueError:
        return time.time() + _duration_s(text)
    return (stated if stated.tzinfo else stated.replace(tzinfo=UTC)).timestamp()


def _duration_s(text: str) -> float:
    matched = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if matched is None:
        raise failed(f"{text!r} is no time: a date (2027-01-31), or 12h, 30d, 8w")
    return float(matched[1]) * _UNITS_S[matched[2]]


def _day(at: float | None) -> str:
    return "" if at is None else moment(at)
