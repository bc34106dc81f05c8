"""Settings for a command, and a command's end when something is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from api.settings import Settings, faults_of
from difftune.extras import lacking

EmbeddedDataDir = Annotated[Path | None, typer.Option(help="Data folder of an embedded service.")]
TOLD = 2
"""Exit status of a module of ours that has said on stderr, in words for people, why it cannot go on."""


def read_settings(data_dir: Path | None = None, **given: Any) -> Settings:
    """The settings of the environment, with this data folder, and what else was given, where it is not None.

    Raises:
        typer.Exit: one of them is wrong; the sentence on stderr names its variable.
    """
    try:
        given["data_dir"] = data_dir and data_dir.expanduser()
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise failed(faults_of(error)) from None
    except SettingsError as error:  # a list that is no JSON
        raise failed(f"a DIFFTUNE_* setting cannot be read: {error}") from None


def need(extra: str) -> None:
    """Refuse a command of the service's machine where the packages of an extra are not installed.

    Raises:
        typer.Exit: one is not.
    """
    if lacking(extra):
        raise failed(
            f"this is done where the service runs, and needs the extra {extra!r}: pip install 'difftune[{extra}]'"
        )


def failed(message: str) -> typer.Exit:
    """Say why on stderr; what to raise."""
    typer.echo(f"difftune: {message}", err=True)
    return typer.Exit(1)
