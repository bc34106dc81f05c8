from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api.deps import After, ReadSession, Tenant
from api.jobs.models import Job
from api.logs import repository
from api.logs.schemas import LogOut, log_out, place_of
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from api.subjects.repository import get

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=KeyedRoute)


@router.get(
    "/{job_id}/logs",
    response_model=Page[LogOut],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def list_logs(
    job_id: str,
    tenant: Tenant,
    session: ReadSession,
    request: Request,
    *,
    attempt: Annotated[int | None, Query(ge=1, le=10**6, description="Only this attempt.")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Pieces on a page, at most.")] = 1000,
) -> Page[LogOut] | Response:
    """What the job's trainers printed, oldest first, while they run too; with `Accept: text/plain` as one text.

    An attempt's log is bounded: of a longer one the beginning and the end are kept.
    """
    get(session, Job, tenant, job_id)
    since = place_of(job_id, after) if after else None
    rows = repository.page(session, job_id, attempt=attempt, after=since, limit=limit + 1)
    if "text/plain" in request.headers.get("accept", ""):
        return PlainTextResponse("".join(chunk.text for chunk in rows[:limit]))
    return page_of(rows, limit, log_out)
