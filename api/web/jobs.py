"""The list of jobs, and what a job's buttons do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api.jobs.states import JobStatus
from api.web.backend import Backend, RefusedError
from api.web.job_page import show_job
from api.web.rendering import page, to
from api.web.routing import Asking, Form, Page

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/jobs")
_JOBS = ("fine_tuning", "jobs")
_ON_PAGE = 25
_EVENT_HEADERS = (b"last-event-id",)
Act = Callable[[Backend, str], Awaitable[Any]]


@router.get("")
async def list_jobs(
    request: Request,
    api: Asking,
    after: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[JobStatus | None, Query()] = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Jobs, newest first."""
    chosen = {"status": status.value if status else None, "model": model or None}
    listed = await api.get(*_JOBS, limit=_ON_PAGE, after=after, **chosen)
    here = "jobs?" + urlencode({name: value for name, value in chosen.items() if value})
    return page(request, "jobs.html.j2", listed=listed, statuses=list(JobStatus), here=here, chosen=chosen)


@router.get("/{job_id}/events")
async def follow_events(
    job_id: str, api: Asking, after: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """What happens to the job, as it happens: the API's own stream."""
    return api.forwarded("GET", *_JOBS, job_id, "events", headers=_EVENT_HEADERS, stream="true", after=after)


def _act(verb: str) -> None:
    async def act(job_id: str, request: Request, api: Asking) -> Response:
        try:
            await api.post(*_JOBS, job_id, verb)
        except RefusedError as refused:
            return await show_job(request, api, job_id, status=refused.status, error=str(refused))
        return to(request, f"jobs/{job_id}")

    router.add_api_route(f"/{{job_id}}/{verb}", act, methods=["POST"], name=f"{verb}_job_page", response_model=None)


for _verb in ("pause", "resume", "cancel"):
    _act(_verb)


@router.post("/{job_id}/delete")
async def delete_job(job_id: str, request: Request, api: Asking, form: Form) -> Response:
    """Delete a job that has ended, once its owner has said so twice."""
    if form.get("sure") != "yes":
        return await show_job(request, api, job_id, status=422, error="Tick the box beside the button first.")
    try:
        await api.delete(*_JOBS, job_id)
    except RefusedError as refused:
        return await show_job(request, api, job_id, status=refused.status, error=str(refused))
    return to(request, "jobs")


@router.get("/{job_id}")
async def retrieve_job(
    job_id: str, request: Request, api: Asking, step: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """One job."""
    return await show_job(request, api, job_id, step=step)


@router.get("/{job_id}/log")
async def job_log(job_id: str, api: Asking, attempt: Annotated[int | None, Query(ge=1)] = None) -> Response:
    """What the trainers printed, as text."""
    return PlainTextResponse(await api.text(*_JOBS, job_id, "logs", attempt=attempt))
