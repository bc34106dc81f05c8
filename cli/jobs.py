"""`difftune jobs`: stop fine-tuning jobs and go on with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.service import ask
from cli.settings import failed, read_settings
from cli.stack import STATE_FILE

Job = Annotated[str, typer.Argument(help="Id of the job (ftjob_...).")]
Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="The service; default: the one on this machine.")]
Key = Annotated[str | None, typer.Option(envvar="DIFFTUNE_API_KEY", help="API key for --url.", show_envvar=True)]
DataDir = Annotated[Path | None, typer.Option(help="Data folder of the service on this machine.")]

jobs = typer.Typer(name="jobs", help="Pause, resume and cancel fine-tuning jobs.", no_args_is_help=True)


@jobs.command()
def pause(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Have a job save its state and give its GPU to others."""
    _say(_tell(job, "pause", url, key, data_dir))


@jobs.command()
def resume(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Go on with a paused job where it stopped."""
    _say(_tell(job, "resume", url, key, data_dir))


@jobs.command()
def cancel(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """End a job for good; its checkpoints stay."""
    _say(_tell(job, "cancel", url, key, data_dir))


def _tell(job: str, verb: str, url: str | None, key: str | None, data_dir: Path | None) -> dict[str, Any]:
    if url is None:
        url, key = _here(data_dir)
    return ask(url, key, f"/v1/fine_tuning/jobs/{quote(job, safe='')}/{verb}", method="POST")


def _here(data_dir: Path | None) -> tuple[str, str]:
    """Address and key of the service that runs over a data folder of this machine."""
    folder = read_settings(data_dir).data_dir
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        return state["url"], (folder / "api-key").read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError):
        raise failed(f"no service runs over {folder}; name another with --url and --key") from None


def _say(job: dict[str, Any]) -> None:
    details = job["status_details"]
    at = f" at step {details['step']} of {details['total_steps']}" if details["step"] else ""
    typer.echo(f"{job['id']} is {job['status']}{at}")
