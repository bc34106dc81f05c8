"""`difftune jobs`: see fine-tuning jobs, stop them and go on with them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.jobs.states import JobStatus
from cli.card import card, left, moment, name_of
from cli.printing import table, tell
from cli.service import AsJson, DataDir, Key, Limit, Url, service
from difftune.jobs import JOBS, path_of
from difftune.service import Service

Job = Annotated[str, typer.Argument(help="Id of the job (ftjob_...).")]
Statuses = Annotated[list[JobStatus] | None, typer.Option("--status", help="Only these; may be given several times.")]
_COLUMNS = {
    "id": "ID",
    "name": "NAME",
    "status": "STATUS",
    "phase": "PHASE",
    "steps": "STEPS",
    "left": "TIME LEFT",
    "model": "MODEL",
    "method": "METHOD",
    "created": "CREATED",
    "error": "ERROR",
}

jobs = typer.Typer(name="jobs", help="Fine-tuning jobs: list, show, stop, go on, delete.", no_args_is_help=True)


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
    """List the jobs of your tenant, newest first."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(JOBS, params={"limit": limit, "status": [one.value for one in status or []]})["data"]
    tell(found, table([_row(job) for job in found], _COLUMNS), as_json=as_json)


@jobs.command("show")
def show_job(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how a job stands: progress, figures, files; with --json all that is known of it."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(path_of(job))
        newest = [] if as_json else asked.ask(f"{path_of(job)}/checkpoints", params={"limit": 1})["data"]
        reports = [] if as_json else list(asked.pages(f"{path_of(job)}/reports"))
    tell(found, card(found, newest, reports), as_json=as_json)


@jobs.command()
def pause(job: Job, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Have a job save its state and give its GPU to others."""
    with service(url, key, data_dir) as asked:
        _tell(asked, job, "pause", as_json=as_json)


@jobs.command()
def resume(job: Job, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Go on with a paused job where it stopped."""
    with service(url, key, data_dir) as asked:
        _tell(asked, job, "resume", as_json=as_json)


@jobs.command()
def cancel(job: Job, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """End a job for good; its checkpoints stay."""
    with service(url, key, data_dir) as asked:
        _tell(asked, job, "cancel", as_json=as_json)


@jobs.command()
def delete(job: Job, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Delete a job that has ended, with its checkpoints and reports."""
    with service(url, key, data_dir) as asked:
        gone = asked.ask(path_of(job), method="DELETE")
    tell(gone, f"{job} is deleted", as_json=as_json)


def _tell(asked: Service, job: str, verb: str, *, as_json: bool) -> None:
    told = asked.ask(f"{path_of(job)}/{verb}", method="POST")
    details = told["status_details"]
    at = f" at step {details['step']} of {details['total_steps']}" if details["step"] else ""
    tell(told, f"{told['id']} is {told['status']}{at}", as_json=as_json)


def _row(job: dict[str, Any]) -> dict[str, str]:
    details, error = job["status_details"], job["error"] or {}
    return {
        "id": job["id"],
        "name": name_of(job),
        "status": job["status"],
        "phase": (details["phase"] or "").replace("_", " "),
        "steps": f"{details['step']} of {details['total_steps']}",
        "left": left(job),
        "model": job["model"],
        "method": job["method"]["type"],
        "created": moment(job["created_at"]),
        "error": error.get("code") or "",
    }
