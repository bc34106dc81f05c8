"""`difftune up`: the whole service on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from api.addresses import is_everywhere
from api.private import write_privately
from api.room import Reserve
from cli.settings import failed, read_settings
from cli.stack import Stack, StackError
from difftune.extras import lacking

_MAX_THREADS = 8
_DRAIN_MARGIN_S = 15.0
_ELSEWHERE = (
    "difftune: clients on other machines are refused, and links lead to this one, until DIFFTUNE_PUBLIC_URL is this "
    "machine's address as they see it: DIFFTUNE_PUBLIC_URL=http://ADDRESS:{port}"
)
_FULL = (
    "difftune: the disk of {folder} has {free:.1f} MiB left: data sets, jobs and checkpoints can be deleted and jobs "
    "cancelled; uploads and trainings wait until there is room"
)


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Everything is kept here; one stack at a time uses it.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = None,
    slots: Annotated[
        int | None, typer.Option(help="Trainings at once; by default one per GPU, or up to two on the CPU.", min=1)
    ] = None,
) -> None:
    """Start API, worker and sweep on this machine; Ctrl-C stops everything."""
    settings = read_settings(data_dir, host=host, port=port)
    folder = settings.data_dir.expanduser().resolve()
    environment = _environment(slots)
    write_privately()
    try:
        check_extras()
        stack = Stack(
            folder,
            host=settings.host,
            port=settings.port,
            environment=environment,
            drain_s=settings.stop_grace_s + _DRAIN_MARGIN_S,
        )
        typer.echo("difftune is starting ...")
        if is_everywhere(settings.host) and settings.public_url is None:
            typer.echo(_ELSEWHERE.format(port=stack.port), err=True)
        if Reserve(folder).is_short:
            typer.echo(_FULL.format(folder=folder, free=Reserve(folder).free_bytes / 2**20), err=True)
        stack.run(lambda: typer.echo(_greeting(stack.url, folder, environment)))
    except StackError as error:
        raise failed(str(error)) from None
    except OSError as error:
        raise failed(f"{error.filename or folder}: {error.strerror}") from None


def check_extras() -> None:
    """Look for the packages that the service's processes need.

    Raises:
        StackError: some are not installed; the message names their extras.
    """
    if extras := lacking("core", "api", "report"):
        raise StackError(f"a service needs more than is installed: pip install 'difftune[{','.join(extras)}]'")


def _environment(slots: int | None) -> dict[str, str]:
    """The children's environment: trainings at once, and threads for each of them, after this machine's size."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = dict(os.environ)
    if slots is not None:
        environment["DIFFTUNE_GPU_SLOTS"] = str(slots)
    environment.setdefault("DIFFTUNE_GPU_SLOTS", str(_count_gpus() or min(2, cores)))
    trainings = int(environment["DIFFTUNE_GPU_SLOTS"]) or 1
    environment.setdefault("DIFFTUNE_NUM_THREADS", str(max(1, min(_MAX_THREADS, cores // trainings))))
    return environment


def _greeting(url: str, folder: Path, environment: dict[str, str]) -> str:
    gpus, trainings = _count_gpus(), environment["DIFFTUNE_GPU_SLOTS"]
    where = f"on {gpus} GPU(s)" if gpus else f"on the CPU with {environment['DIFFTUNE_NUM_THREADS']} thread(s) each"
    return (
        f"difftune is ready at {url}\n"
        f"  API key in        {folder / 'api-key'}\n"
        f"  data and logs in  {folder}\n"
        f"  trainings at once {trainings}, {where}\n"
        "Ctrl-C stops everything; running trainings save their state and go on at the next start."
    )


def _count_gpus() -> int:
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
