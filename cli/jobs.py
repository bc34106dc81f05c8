"""`difftune jobs`: see fine-tuning jobs, stop them and go on with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from api.jobs.states import JobStatus
from cli.printing import sheet, table
from cli.service import ask
from cli.settings import failed, read_settings
from cli.stack import STATE_FILE

Job = Annotated[str, typer.Argument(help="Id of the job (ftjob_...).")]
Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="The service; default: the one on this machine.")]
Key = Annotated[str | None, typer.Option(envvar="DIFFTUNE_API_KEY", help="API key for --url.", show_envvar=True)]
DataDir = Annotated[Path | None, typer.Option(help="Data folder of the service on this machine.")]
Statuses = Annotated[list[JobStatus] | None, typer.Option("--status", help="Only these; may be given several times.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_COLUMNS = {
    "id": "ID",
    "status": "STATUS",
    "steps": "STEPS",
    "model": "MODEL",
    "method": "METHOD",
    "created": "CREATED (UTC)",
    "error": "ERROR",
}

jobs = typer.Typer(name="jobs", help="Fine-tuning jobs: list, show, pause, resume, cancel.", no_args_is_help=True)


@jobs.command("list")
def list_jobs(
    *,
    status: Statuses = None,
    limit: Limit = 20,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Jobs of your tenant, newest first."""
    url, key = _service(url, key, data_dir)
    found = ask(url, key, "/v1/fine_tuning/jobs", limit=limit, status=[one.value for one in status or []])["data"]
    typer.echo(json.dumps(found, indent=1) if as_json else table([_row(job) for job in found], _COLUMNS))


@jobs.command("show")
def show_job(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """All that is known of one job."""
    url, key = _service(url, key, data_dir)
    found = ask(url, key, f"/v1/fine_tuning/jobs/{quote(job, safe='')}")
    typer.echo(json.dumps(found, indent=1) if as_json else sheet(found))


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
    url, key = _service(url, key, data_dir)
    return ask(url, key, f"/v1/fine_tuning/jobs/{quote(job, safe='')}/{verb}", method="POST")


def _service(url: str | None, key: str | None, data_dir: Path | None) -> tuple[str, str | None]:
    """Address and key of the service that was named, or else of the one here."""
    return (url, key) if url else _here(data_dir)


def _here(data_dir: Path | None) -> tuple[str, str]:
    """Address and key of the service that runs over a data folder of this machine."""
    folder = read_settings(data_dir).data_dir
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        return state["url"], (folder / "api-key").read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError):
        raise failed(f"no service runs over {folder}; name another with --url and --key") from None


def _row(job: dict[str, Any]) -> dict[str, str]:
    details, error = job["status_details"], job["error"] or {}
    return {
        "id": job["id"],
        "status": job["status"],
        "steps": f"{details['step']} of {details['total_steps']}",
        "model": job["model"],
        "method": job["method"]["type"],
        "created": datetime.fromtimestamp(job["created_at"], UTC).strftime("%Y-%m-%d %H:%M"),
        "error": error.get("code") or "",
    }


def _say(job: dict[str, Any]) -> None:
    details = job["status_details"]
    at = f" at step {details['step']} of {details['total_steps']}" if details["step"] else ""
    typer.echo(f"{job['id']} is {job['status']}{at}")
