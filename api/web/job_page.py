"""A job's page: how it stands, what it draws, what its figures say, and what can be taken away."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.deps import Services
from api.jobs.repository import newest_points
from api.storage import StoreError
from api.subjects import files
from api.web import curves, verdict
from api.web.backend import Backend
from api.web.rendering import page
from difftune_core.config.reports.run import RunReport

_JOBS = ("fine_tuning", "jobs")
_MOST_POINTS = 40_000
_MOST_REPORT_BYTES = 16 << 20
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
    events = (await api.get(*_JOBS, job_id, "events", limit=40))["data"]
    results = (await api.get(*_JOBS, job_id, "reports"))["data"]
    used: Services = request.app.state.services
    tenant = request.state.principal.tenant_id
    rows = await used.units.read(tenant, partial(newest_points, job_id=job_id, limit=_MOST_POINTS))
    report = await used.units.other(tenant, partial(_report, used, job_id)) if results else None
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
        events=events,
        results=results,
        charts=curves.charts_of(curves.by_name(rows), report),
        verdicts=verdict.verdicts(report) if report else [],
        tiles=verdict.tiles(report) if report else [],
        memory=report.environment.get("memory") if report else None,
        config=json.dumps({name: job[name] for name in _CONFIG if job.get(name) is not None}, indent=2),
        buttons=[verb for verb, statuses in _BUTTONS.items() if job["status"] in statuses],
    )


def _report(used: Services, job_id: str) -> RunReport | None:
    """The job's report, if there is one that can be read; who asks has been shown the job already."""

    def key_of(session: Session) -> Any:
        found = [file for file in files.of(session, [job_id])[job_id] if file.kind == "report_json"]
        return max(found, key=lambda file: file.step, default=None)

    with used.database.read() as session:
        file = key_of(session)
        if file is None or file.bytes > _MOST_REPORT_BYTES:
            return None
        key = file.key
    try:
        return RunReport.model_validate_json(b"".join(used.store.read(key)))
    except (FileNotFoundError, StoreError, ValidationError):
        return None
