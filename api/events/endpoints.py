from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.db import Database
from api.deps import After, Limit, Order, ServicesDep, Tenant
from api.events import repository
from api.events.models import Event
from api.events.schemas import EventOut, event_out, number_of
from api.jobs import service as jobs
from api.jobs.states import FINAL
from api.routing import KeyedRoute
from api.schemas import Page, page_of

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=KeyedRoute)
_POLL_S = 0.5
_BATCH = 200
_COMMENT_S = 15


@router.get(
    "/{job_id}/events",
    response_model=Page[EventOut],
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def list_events(
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
        with used.database.read() as session:
            newest = jobs.get(session, tenant, job_id).last_event
        known = number_of(job_id, last_event_id, param="last-event-id", newest=newest) if last_event_id else 0
        if after and not last_event_id:
            known = number_of(job_id, after, param="after", newest=newest)
        return EventSourceResponse(_follow(used.database, job_id, known), ping=_COMMENT_S, sep="\n")
    with used.database.read() as session:
        newest = jobs.get(session, tenant, job_id).last_event
        number = number_of(job_id, after, param="after", newest=newest) if after else None
        rows = repository.page(session, job_id, after=number, limit=limit + 1, ascending=order == "asc")
    return page_of(rows, limit, event_out)


async def _follow(database: Database, job_id: str, known: int) -> AsyncIterator[ServerSentEvent]:
    """Events after number `known`, until the job is final. Between two looks no connection is held."""
    while True:
        status, events = await anyio.to_thread.run_sync(_look, database, job_id, known)
        for event in events:
            known = event.number
            shown = event_out(event)
            yield ServerSentEvent(data=shown.model_dump_json(), event=shown.type, id=shown.id, sep="\n")
        if len(events) < _BATCH:
            if status is None or status in FINAL:
                return
            await anyio.sleep(_POLL_S)


def _look(database: Database, job_id: str, known: int) -> tuple[str | None, list[Event]]:
    with database.read() as session:
        return repository.status_and_page(session, job_id, after=known, limit=_BATCH)
