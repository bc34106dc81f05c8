"""Archives and folders on their way to a service, and what it found in them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.transfer import bar
from difftune.packing import archive_of
from difftune.service import Service

OnBadFiles = Annotated[str | None, typer.Option(help="refuse (default) or skip: what becomes of files that are unfit.")]
Splits = Annotated[
    str | None, typer.Option(help="Of an archive with train/ and val/ folders: train, validation, test or hold_out.")
]


def settings_of(on_bad_files: str | None, splits: str | None) -> dict[str, str]:
    """The settings of a data set that were stated."""
    given = {"on_bad_files": on_bad_files, "splits": splits}
    return {name: value for name, value in given.items() if value is not None}


def send(asked: Service, path: Path, console: Console, settings: dict[str, str]) -> dict[str, Any]:
    """Upload an archive, or a folder that is packed, and return the data set once it was found valid.

    Raises:
        ServiceError: it cannot be read, or the service refuses it, with what can be done about it.
    """
    with archive_of(path, partial(bar, console)) as archive, bar(console, f"uploading {archive.name}") as heard:
        uploaded = asked.upload(archive, heard, fields=settings)
    return asked.validated(uploaded)
