"""The running service that a command speaks to, and the options that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.settings import failed, read_settings
from difftune.places import default_profile, key_of, local_service, no_service
from difftune.places import named as named_service
from difftune.service import Service, ServiceError

Url = Annotated[
    str | None,
    typer.Option(
        envvar="DIFFTUNE_URL", help="The service, or a name of the profile file; default: the one on this machine."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="DIFFTUNE_API_KEY", help="API key; default: that of the data folder.", show_envvar=True),
]
DataDir = Annotated[Path | None, typer.Option(help="Data folder of the service on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")]
KeyForUrl = Annotated[str | None, typer.Option(envvar="DIFFTUNE_API_KEY", help="API key for --url.", show_envvar=True)]


@contextmanager
def service(url: str | None, key: str | None, data_dir: Path | None) -> Iterator[Service]:
    """Connect to the service that was named, or else to that of the default profile, or that over the data folder.

    A `key` is used for either; without one the folder's own.

    Raises:
        typer.Exit: there is none, or it refuses what is asked within the context; stderr says why.
    """
    try:
        named = _named(url, data_dir)
        address, own = named or _here(data_dir)
        secret = key or own if named is None else key_of(own, key)
        if not secret:
            raise failed("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
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


def _named(url: str | None, data_dir: Path | None) -> tuple[str, str] | None:
    """The service of an address or a profile; None where the one of a data folder is meant."""
    return named_service(url) if url else default_profile() if data_dir is None else None


def _here(data_dir: Path | None) -> tuple[str, str]:
    folder = read_settings(data_dir).data_dir.expanduser()
    found = local_service(folder)
    if found is None:
        raise ServiceError(no_service(folder))
    return found
