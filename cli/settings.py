"""Settings for a command, and a command's end when something is wrong with them."""

from __future__ import annotations

from pathlib import Path

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from api.settings import Settings


def read_settings(data_dir: Path | None = None) -> Settings:
    """The settings of the environment, with this data folder where one is given.

    Raises:
        typer.Exit: one of them is wrong; the sentence on stderr names its variable.
    """
    try:
        return Settings() if data_dir is None else Settings(data_dir=data_dir.expanduser())
    except ValidationError as error:
        faults = [f"DIFFTUNE_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
        raise failed("; ".join(faults)) from None
    except SettingsError as error:  # a list that is no JSON
        raise failed(f"a DIFFTUNE_* setting cannot be read: {error}") from None


def failed(message: str) -> typer.Exit:
    """Say why on stderr; what to raise."""
    typer.echo(f"difftune: {message}", err=True)
    return typer.Exit(1)
