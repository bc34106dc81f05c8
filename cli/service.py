"""The running service that a command speaks to, and the options that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Service, ServiceError, local_service
from cli.settings import failed, read_settings

Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="The service; default: the one on this machine.")]
Key = Annotated[
    str | None,
    typer.Option(envvar="DIFFTUNE_API_KEY", help="API key; default: that of the data folder.", show_envvar=True),
]
DataDir = Annotated[Path | None, typer.Option(help="Data folder of the service on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@contextmanager
def service(url: str | None, key: str | None, data_dir: Path | None) -> Iterator[Service]:
    """Connect to the service that was named, or else to the one that runs over the data folder.

    A `key` is used for either; without one the folder's own.

    Raises:
        typer.Exit: there is none, or it refuses what is asked within the context; stderr says why.
    """
    if url and not key:
        raise failed("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
    address, own = (url, "") if url else _here(data_dir)
    secret = key or own
    try:
        with Service(address, secret) as found:
            yield found
    except ServiceError as error:
        raise failed(str(error)) from None


def ask(url: str, key: str | None, path: str, *, method: str = "GET", **params: Any) -> dict[str, Any]:
    """Return what `path` of a service answers.

    Raises:
        typer.Exit: no key, no service, or the service's own refusal, which is quoted.
    """
    with service(url, key, None) as found:
        return found.ask(path, method=method, params=params)


def _here(data_dir: Path | None) -> tuple[str, str]:
    folder = read_settings(data_dir).data_dir.expanduser()
    found = local_service(folder)
    if found is None:
        raise failed(f"no service runs over {folder}: start one with `difftune up`, or name one with --url and --key")
    return found
