"""`difftune comparisons`: see comparisons of methods, stop and delete them; `difftune compare` starts one."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from api.subjects.states import Status
from cli.card import moment
from cli.printing import printable, table, tell
from cli.service import AsJson, DataDir, Key, Limit, Url, service

Comparison = Annotated[str, typer.Argument(help="Id of the comparison (cmp_...).")]
Statuses = Annotated[list[Status] | None, typer.Option("--status", help="Only these; may be given several times.")]
WithJobs = Annotated[bool, typer.Option("--jobs", help="Delete its jobs too, and all that they made.")]
_PATH = "/v1/comparisons"
_COLUMNS = {
    "id": "ID",
    "name": "NAME",
    "status": "STATUS",
    "jobs": "JOBS",
    "steps": "STEPS",
    "model": "MODEL",
    "methods": "METHODS",
    "created": "CREATED",
    "error": "ERROR",
}
_JOB_COLUMNS = {"id": "JOB", "method": "METHOD", "seed": "SEED", "status": "STATUS", "steps": "STEPS", "error": "ERROR"}
_WIDTH = 14

comparisons = typer.Typer(
    name="comparisons", help="Comparisons of methods: list, show, cancel, delete.", no_args_is_help=True
)


@comparisons.command("list")
def list_comparisons(
    *,
    status: Statuses = None,
    limit: Limit = 20,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the comparisons of your tenant, newest first."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(_PATH, params={"limit": limit, "status": [one.value for one in status or []]})["data"]
    tell(found, table([_row(one) for one in found], _COLUMNS), as_json=as_json)


@comparisons.command("show")
def show_comparison(
    comparison: Comparison, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show how a comparison stands, and each of its jobs; with --json all that is known of it."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(_path_of(comparison))
    tell(found, _card(found), as_json=as_json)


@comparisons.command()
def cancel(
    comparison: Comparison, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """End all jobs of a comparison for good; their checkpoints stay, and there is no joint report."""
    with service(url, key, data_dir) as asked:
        told = asked.ask(f"{_path_of(comparison)}/cancel", method="POST")
    tell(told, f"{told['id']} is {_standing(told)}", as_json=as_json)


@comparisons.command()
def delete(
    comparison: Comparison,
    *,
    jobs: WithJobs = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete a comparison that has ended, and its report; its jobs stay unless --jobs is given."""
    with service(url, key, data_dir) as asked:
        gone = asked.ask(_path_of(comparison), method="DELETE", params={"jobs": str(jobs).lower()})
    tell(gone, f"{comparison} is deleted{' with its jobs' if jobs else '; its jobs stay'}", as_json=as_json)


def _path_of(comparison: str) -> str:
    return f"{_PATH}/{quote(comparison, safe='')}"


def _row(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": found["id"],
        "name": found["suffix"],
        "status": _standing(found),
        "jobs": _jobs(found),
        "steps": _steps(found["status_details"]),
        "model": found["model"],
        "methods": [method["name"] for method in found["methods"]],
        "created": moment(found["created_at"]),
        "error": (found["error"] or {}).get("code"),
    }


def _card(found: dict[str, Any]) -> str:
    error = found["error"]
    lines = {
        "comparison": found["id"],
        "name": found["suffix"] or "",
        "status": _standing(found) + (f": {error['message']} ({error['code']})" if error else ""),
        "progress": f"{_steps(found['status_details'])} steps; jobs: {_jobs(found)}",
        "tunes": f"{found['model']} by {', '.join(method['name'] for method in found['methods'])}",
        "data": f"{found['training_file']}, judged by {found['validation_file'] or 'images held out of it'}",
        "times": f"submitted {moment(found['created_at'])}",
        "files": ", ".join(report["filename"] for report in found["reports"]),
    }
    jobs = [
        {**job, "steps": _steps(job), "seed": str(job["seed"]), "error": (job["error"] or {}).get("message")}
        for job in found["jobs"]
    ]
    shown = "\n".join(f"{name:{_WIDTH}}{text}" for name, text in lines.items() if text)
    return printable(shown) + "\n\n" + table(jobs, _JOB_COLUMNS)


def _standing(found: dict[str, Any]) -> str:
    details = found["status_details"]
    ending = "cancelling" if details["cancel_requested"] else details["phase"]
    return f"{found['status']}, {ending}" if details["phase"] else str(found["status"])


def _steps(told: dict[str, Any]) -> str:
    return f"{told['step']} of {told['total_steps']}"


def _jobs(found: dict[str, Any]) -> str:
    return ", ".join(f"{count} {status}" for status, count in found["status_details"]["jobs"].items())
