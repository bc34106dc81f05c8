"""`difftune migrate`: everything that must be there before API and workers start."""

from __future__ import annotations

import subprocess
import sys

import typer

from cli.settings import TOLD, need, read_settings

_STEPS = (("migrations.run", "upgrade"), ("api.storage",), ("api.keys",))


def migrate() -> None:
    """Bring the database to the newest revision, make the bucket and the first API key; what is there stays.

    A stack of containers runs this once at each start; `difftune up` does it by itself.
    """
    need("api")
    read_settings()  # what is wrong with one is told here in a line
    for module, *arguments in _STEPS:
        done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)  # noqa: S603  # ours
        if done.returncode:
            if done.returncode != TOLD:
                typer.echo(f"difftune: {module} failed", err=True)
            raise typer.Exit(1)
