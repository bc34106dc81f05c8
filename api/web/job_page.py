"""A job's page: how it stands, what it draws, what its figures say, and what can be taken away."""

from __future__ import annotations

import json
from functools import partial

from fastapi import Request, Response

from api.deps import Services
from api.jobs.repository import newest_points
from api.web import curves, verdict
from api.web.backend import Backend
from api.web.rendering import page
from api.web.reports import report_of
from difftune_core.config.reports.run import RunReport

_JOBS = ("fine_tuning", "jobs")
_MOST_POINTS = 40_000
_EVENTS, _MOST_EVENTS = 100, 30  # looked through, of which most tell of progress; shown
_BUTTONS = {
    "pause": {"queued", "running", "validating_files"},
    "resume": {"paused"},
    "cancel": {"queued", "running", "validating_files", "paused", "pausing", "resuming"},
}
_FINAL = {"succeeded", "failed", "cancelled"}
_CONFIG = (
    *("model", "training_file", "validation_file", "method", "control", "evaluation", "samples", "checkpoints"),
    *("resources", "seed", "num_threads", "suffix", "metadata", "priority"),
)


async def show_job(
    request: Request, api: Backend, job_id: str, *, step: int | None = None, status: int = 200, error: str | None = None
) -> Response:
    """The page of a job; `step` chooses the sample images, and `error` tells why a button did nothing."""
    job = await api.get(*_JOBS, job_id)
    samples = (await api.get(*_JOBS, job_id, "samples", limit=100))["data"]
    checkpoints = await api.get(*_JOBS, job_id, "checkpoints", limit=20)
    events = (await api.get(*_JOBS, job_id, "events", limit=_EVENTS))["data"]
    results = (await api.get(*_JOBS, job_id, "reports"))["data"]
    used: Services = request.app.state.services
    tenant = request.state.principal.tenant_id
    rows = await used.units.read(tenant, partial(newest_points, job_id=job_id, limit=_MOST_POINTS))
    report = await report_of(used, tenant, job_id, RunReport)
    chosen = next((sample for sample in samples if sample["step"] == step), samples[-1] if samples else None)
    return page(
        request,
        "job.html.j2",
        status=status,
        error=error,
        job=job,
        is_over=job["status"] in _FINAL,
        samples=samples,
        chosen=chosen,
        checkpoints=checkpoints,
        last_event=events[0]["id"] if events else "",
        events=[event for event in events if event["type"] != "progress"][:_MOST_EVENTS],
        results=results,
        charts=curves.charts_of(curves.by_name(rows), report),
        verdicts=verdict.verdicts(report) if report else [],
        tiles=verdict.tiles(report) if report else [],
        memory=report.environment.get("memory") if report else None,
        config=json.dumps({name: job[name] for name in _CONFIG if job.get(name) is not None}, indent=2),
        buttons=[verb for verb, statuses in _BUTTONS.items() if job["status"] in statuses],
    )
