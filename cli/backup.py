"""`difftune backup` and `difftune restore`: the whole service in a folder, and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.service import AsJson
from cli.settings import EmbeddedDataDir, need, read_settings

_Folder = Annotated[Path, typer.Argument(help="The backup.")]


def backup(
    folder: _Folder,
    data_dir: EmbeddedDataDir = None,
    with_objects: Annotated[
        bool, typer.Option("--with-objects", help="Copy the store's objects too, not only their checksums.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write database and list of objects to a new folder, while the service runs."""
    _run("backup", folder, data_dir, ["--with-objects"] * with_objects + ["--json"] * as_json)


def restore(folder: _Folder, data_dir: EmbeddedDataDir = None, as_json: AsJson = False) -> None:
    """Bring a backup into an empty service that does not run, and say what the store lacks."""
    _run("restore", folder, data_dir, ["--json"] * as_json)


def _run(verb: str, folder: Path, data_dir: Path | None, options: list[str]) -> None:
    """Run the module in a process of its own: this command knows nothing of databases."""
    need("api")
    settings = read_settings(data_dir)
    environment = {**os.environ, "DIFFTUNE_DATA_DIR": str(settings.data_dir.resolve())}
    command = [sys.executable, "-m", "migrations.backup", verb, str(folder.expanduser().resolve()), *options]
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603  # our own command line
    raise typer.Exit(done.returncode)
