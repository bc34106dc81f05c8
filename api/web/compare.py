"""Comparisons of methods, and jobs of one's own beside each other."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.deps import ServicesDep
from api.errors import InvalidInputError
from api.jobs.repository import newest_points
from api.web import beside, curves, side_by_side
from api.web.backend import Backend, RefusedError
from api.web.rendering import page, to
from api.web.reports import report_of
from api.web.routing import Asking, Form, Page
from difftune_core.config.reports.comparison import ComparisonReport
from difftune_core.config.reports.run import RunReport

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/comparisons")
_JOBS = ("fine_tuning", "jobs")
_ON_PAGE = 25
_MOST_RUNS = 6
_MOST_POINTS = 10_000
_METHODS = ("diff_tuning", "supervised")


@router.get("")
async def list_comparisons(
    request: Request, api: Asking, after: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """Comparisons, newest first, and the forms for others."""
    return await _listed(request, api, after=after)


@router.post("/new")
async def start_comparison(request: Request, api: Asking, form: Form) -> Response:
    """Start jobs of Diff-Tuning and of plain fine-tuning, paired by their seeds."""
    seeds, steps = form.get("seeds", "3"), form.get("max_steps", "")
    if not seeds.isdecimal() or not (steps.isdecimal() or not steps):
        return await _listed(request, api, status=422, error="Seeds and steps are whole numbers.")
    training = {"max_steps": int(steps)} if steps else {}
    body: dict[str, Any] = {
        "model": form.get("model", ""),
        "training_file": form.get("training_file", ""),
        "methods": [
            {"name": name.replace("_", "-"), "method": {"type": name, name: {"hyperparameters": training}}}
            for name in _METHODS
        ],
        "seeds": list(range(min(int(seeds), 100))),
    }
    try:
        made = await api.post("comparisons", body=body, once=form.get("once") or None)
    except RefusedError as refused:
        return await _listed(request, api, status=refused.status, error=str(refused))
    return to(request, f"comparisons/{made['id']}")


@router.get("/jobs")
async def compare_jobs(
    request: Request, api: Asking, used: ServicesDep, job: Annotated[list[str] | None, Query(max_length=64)] = None
) -> Response:
    """Jobs side by side, those that the address names."""
    asked = list(dict.fromkeys(job or []))
    if not 1 < len(asked) <= _MOST_RUNS:
        message = f"Choose two to {_MOST_RUNS} jobs."
        raise InvalidInputError("invalid_value", message, param="job", pointer=None)
    jobs = [await api.get(*_JOBS, job_id) for job_id in asked]
    tenant, runs = request.state.principal.tenant_id, []
    for name, one in zip(side_by_side.names_of(jobs), jobs, strict=True):
        rows = await used.units.read(tenant, partial(newest_points, job_id=one["id"], limit=_MOST_POINTS))
        report = await report_of(used, tenant, one["id"], RunReport)
        runs.append(side_by_side.Run(name, curves.by_name(rows), report))
    named = [(run.name, one) for run, one in zip(runs, jobs, strict=True)]
    return page(
        request,
        "compare_jobs.html.j2",
        drawn=await beside.strips_of(api, named) + await beside.data_of(used, tenant, api, jobs),
        plots=side_by_side.plots_of_runs(runs),
        curves=side_by_side.curves_of_runs(runs),
        is_fair=len({(one["training_file"], one["validation_file"], one["base_model"]) for one in jobs}) == 1,
    )


@router.get("/{comparison_id}")
async def retrieve_comparison(comparison_id: str, request: Request, api: Asking, used: ServicesDep) -> Response:
    """One comparison."""
    found = await api.get("comparisons", comparison_id)
    tenant: str = request.state.principal.tenant_id
    report = await report_of(used, tenant, comparison_id, ComparisonReport)
    of_one_seed = [run for run in found["jobs"] if run["seed"] == found["seeds"][0]][:_MOST_RUNS]
    jobs = [(run["method"], await api.get(*_JOBS, run["id"])) for run in of_one_seed]
    return page(
        request,
        "comparison.html.j2",
        comparison=found,
        is_over=found["status"] in {"succeeded", "failed", "cancelled"},
        sentences=side_by_side.sentences(report) if report else [],
        plots=side_by_side.plots_of(report) if report else [],
        curves=side_by_side.curves_of(report) if report else [],
        shortcomings=report.shortcomings if report else [],
        drawn=await beside.strips_of(api, jobs) + await beside.data_of(used, tenant, api, (job for _, job in jobs)),
    )


@router.post("/{comparison_id}/cancel")
async def cancel_comparison(comparison_id: str, request: Request, api: Asking) -> Response:
    """Cancel a comparison with its jobs."""
    await api.post("comparisons", comparison_id, "cancel")
    return to(request, f"comparisons/{comparison_id}")


@router.get("/{comparison_id}/reports/{filename}")
async def show_report(comparison_id: str, filename: str, api: Asking) -> Response:
    """A file of the joint report."""
    return api.forwarded("GET", "comparisons", comparison_id, "reports", filename)


async def _listed(
    request: Request, api: Backend, *, after: str | None = None, status: int = 200, error: str | None = None
) -> Response:
    models = [one for one in (await api.get("models"))["data"] if one["kind"] == "base_model"]
    return page(
        request,
        "comparisons.html.j2",
        status=status,
        error=error,
        listed=await api.get("comparisons", limit=_ON_PAGE, after=after),
        jobs=(await api.get(*_JOBS, status="succeeded", limit=20))["data"],
        models=models,
        datasets=(await api.get("datasets", status="ready", limit=100))["data"],
    )
