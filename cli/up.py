"""`difftune up`: the whole service on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from api.settings import Settings
from cli.stack import Stack, StackError

_MAX_THREADS = 8
_DRAIN_MARGIN_S = 15.0


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Everything is kept here; one stack at a time uses it.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = None,
    slots: Annotated[
        int | None, typer.Option(help="Trainings at once; by default one per GPU, or up to two on the CPU.", min=1)
    ] = None,
) -> None:
    """Start API, worker and sweep on this machine; Ctrl-C stops everything."""
    settings = Settings()
    folder = (data_dir or settings.data_dir).expanduser().resolve()
    gpus, cores = _count_gpus(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    trainings = slots or gpus or min(2, cores or 1)
    threads = max(1, min(_MAX_THREADS, (cores or 1) // trainings))
    environment = dict(os.environ)
    if slots is not None or "DIFFTUNE_GPU_SLOTS" not in environment:
        environment["DIFFTUNE_GPU_SLOTS"] = str(trainings)
    environment.setdefault("DIFFTUNE_NUM_THREADS", str(threads))
    where = f"on {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "on the CPU"

    try:
        stack = Stack(
            folder,
            host=host or settings.host,
            port=settings.port if port is None else port,
            environment=environment,
            drain_s=settings.stop_grace_s + _DRAIN_MARGIN_S,
        )
        stack.run(
            lambda: typer.echo(
                f"difftune is ready at {stack.url}\n"
                f"  API key in        {folder / 'api-key'}\n"
                f"  data and logs in  {folder}\n"
                f"  trainings at once {environment['DIFFTUNE_GPU_SLOTS']}, {where}, "
                f"{environment['DIFFTUNE_NUM_THREADS']} threads each\n"
                "Ctrl-C stops everything; running trainings save their state and go on at the next start."
            )
        )
    except StackError as error:
        typer.echo(f"difftune: {error}", err=True)
        raise typer.Exit(1) from None


def _count_gpus() -> int:
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
