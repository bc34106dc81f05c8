from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse

from api.deps import After, Limit, Order, ServicesDep, Tenant, authenticate
from api.events import repository
from api.events.schemas import EventOut, event_out, number_of
from api.jobs.models import Job
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from api.subjects.repository import get

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=KeyedRoute)
_COMMENT_S = 15


@router.get(
    "/{job_id}/events",
    response_model=Page[EventOut],
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def list_events(
    job_id: str,
    tenant: Tenant,
    used: ServicesDep,
    request: Request,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    stream: Annotated[bool, Query(description="Follow the job instead of listing: server-sent events.")] = False,
    last_event_id: Annotated[str | None, Header(max_length=255, description="Resumes a stream after it.")] = None,
) -> Page[EventOut] | Response:
    """What happened to the job, newest first; with `stream=true` or `Accept: text/event-stream` as it happens.

    A stream begins with the first event, or after `Last-Event-ID`, and ends after the event that ends the job.
    """
    if stream or "text/event-stream" in request.headers.get("accept", ""):
        principal = await authenticate(request)
        watched = await used.following.watch(tenant, job_id)
        known = 0
        if seen := last_event_id or after:
            param, newest = "last-event-id" if last_event_id else "after", watched.known
            if number_of(job_id, seen, param=param) > newest:  # perhaps it is newer than our last look
                newest = await used.units.read(tenant, lambda session: get(session, Job, tenant, job_id).last_event)
            known = number_of(job_id, seen, param=param, newest=newest)
        return EventSourceResponse(used.following.follow(watched, known, principal.key_id), ping=_COMMENT_S, sep="\n")

    def listed(session: Session) -> Page[EventOut]:
        newest = get(session, Job, tenant, job_id).last_event
        number = number_of(job_id, after, param="after", newest=newest) if after else None
        rows = repository.page(session, job_id, after=number, limit=limit + 1, ascending=order == "asc")
        return page_of(rows, limit, event_out)

    return await used.units.read(tenant, listed)
