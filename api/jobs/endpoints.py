from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response, params
from pydantic_core import to_json
from sqlalchemy.orm import Session

from api.base_models import service as models
from api.deps import After, Limit, OnceDep, Order, ReadSession, ServicesDep, Tenant, WriteSession
from api.errors import InvalidInputError, not_found
from api.ids import cursor
from api.jobs import beginnings, images, lifecycle, planning, removal, repository, retention, service, stops
from api.jobs.models import Job
from api.jobs.schemas import JobCreate, JobOut, MetricOut, ReportOut, metric_out, report_out
from api.jobs.shared_images import tell_shared
from api.jobs.shown import shown
from api.jobs.states import JobStatus
from api.routing import DirectRoute, KeyedRoute
from api.schemas import Page, page_of
from api.subjects import files
from api.subjects.models import ResultFile
from api.subjects.repository import get, paged
from api.subjects.routes import Asked, Routes
from difftune_core.config.card import BaseModelCard
from difftune_core.config.plan.plan import Plan
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=KeyedRoute)
_ID = re.compile(r"\w{1,40}", re.ASCII)
_JSON = "application/json"
_METADATA = re.compile(r'metadata\[([^"\\\x00-\x1f]{1,64})\]')
_BY_MODEL = "Only jobs on this base model, or begun with this checkpoint."
_BY_METADATA = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "description": "`metadata[key]=value`: only jobs that carry this pair.",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}
_REPORTS = {"report_json", "report_html", "samples"}


def _shown(session: Session, rows: Sequence[Job]) -> list[JobOut]:
    session.flush()
    found = shown(session.connection(), [row.id for row in rows])
    return [JobOut.model_validate(found[row.id]) for row in rows]


class _Made(NamedTuple):
    """A job's new row, and what it was made of."""

    row: Job
    given: TransferConfig
    card: BaseModelCard
    num_images: int | None
    """Number of the training images, where they are counted."""


def _made(body: JobCreate, asked: Asked) -> _Made:
    settings, store = asked.used.settings, asked.used.store
    beginning = beginnings.chosen(asked.session, asked.tenant, body.model)
    config = beginnings.config_of(body.stated(), beginning)
    card = models.card_for_job(settings, store, config.model)
    if beginning is not None:
        beginnings.check(beginning, card)
    known = images.asked_of(asked.session, asked.tenant, body, card)
    resolved = resolve(config, card, num_threads=settings.num_threads, num_images=known)
    models.check_companions(settings, store, resolved, card)
    retention.check_settings(card, resolved)
    resolved = planning.fitted(asked.session, resolved, card, num_images=known)
    submission = service.Submission(
        config=resolved,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        metadata=body.metadata,
        priority=body.priority,
        base_digest=card.digest,
        beginning=beginning,
    )
    return _Made(service.create(asked.session, asked.tenant, submission), config, card, known)


def _created(body: JobCreate, asked: Asked) -> Job:
    job = _made(body, asked).row
    named = (body.training_file, body.validation_file)
    asked.background.add_task(tell_shared, asked.used, asked.tenant, [job.id], *named)
    return job


def _planned(body: JobCreate, asked: Asked) -> Plan:
    """Make the job as it would be made, and take it back: so it is judged by the same rules."""
    attempt = asked.session.begin_nested()
    try:
        made = _made(body, asked)
        return planning.plan(asked.session, made.row, made.given, made.card, made.num_images)
    finally:
        attempt.rollback()


def _cancelled(asked: Asked, job_id: str) -> Job:
    job = get(asked.session, Job, asked.tenant, job_id)
    service.request_cancel(asked.session, job)
    return job


def _paused(asked: Asked, job_id: str) -> Job:
    job = get(asked.session, Job, asked.tenant, job_id)
    stops.request_pause(asked.session, job)
    return job


def _resumed(asked: Asked, job_id: str) -> Job:
    job = get(asked.session, Job, asked.tenant, job_id)
    card = models.cards(asked.used.settings, asked.used.store).get(job.model)
    stops.request_resume(asked.session, job, asked.used.store, card)
    return job


_routes = Routes(router, Job, JobOut, _shown)


@router.post("")
def create_job(
    body: JobCreate,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
    dry_run: Annotated[bool, Query(description="Answer with the job's plan and store nothing.")] = False,
) -> JobOut | Plan:
    """Submit a job. What is left out comes from the base model's card; the answer shows it all."""
    asked = Asked(tenant, session, used, background)
    if dry_run:
        return _planned(body, asked)
    background.add_task(used.doorbell.ring)
    return once.answer(session, body, JobOut, lambda: _shown(session, [_created(body, asked)])[0])


@router.get("", response_model=Page[JobOut], openapi_extra=_BY_METADATA)
def list_jobs(
    tenant: Tenant,
    session: ReadSession,
    request: Request,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs of these statuses.")] = None,
    model: Annotated[str | None, Query(max_length=64, description=_BY_MODEL)] = None,
) -> Response:
    """The jobs, newest first. `metadata[key]=value` keeps those that carry this pair."""
    ids = repository.page_of_ids(
        session,
        tenant,
        after=cursor(after, "ftjob"),
        limit=limit + 1,
        ascending=order == "asc",
        statuses=status or (),
        model=model,
        metadata=_metadata(request),
    )
    found = shown(session.connection(), ids[:limit])
    data = [found[job_id] for job_id in ids[:limit] if job_id in found]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    page = {"object": "list", "data": data, "has_more": len(ids) > limit, **ends}
    return Response(to_json(page, inf_nan_mode="null"), media_type=_JSON)


async def retrieve_job(job_id: str, tenant: Tenant, used: ServicesDep) -> Response:
    """One job."""
    job = await used.jobs_asked.ask(job_id) if _ID.fullmatch(job_id) else None
    if job is None or job.tenant_id != tenant:
        raise not_found("job", job_id)
    return Response(job.body, media_type=_JSON)


def add_status(app_router: APIRouter, dependencies: list[params.Depends]) -> None:
    """Add `retrieve_job`, beside the router and not in it: each level of routers costs every request of its own."""
    app_router.add_api_route(
        f"{router.prefix}/{{job_id}}",
        retrieve_job,
        methods=["GET"],
        response_model=JobOut,
        tags=[*router.tags],
        dependencies=dependencies,
        route_class_override=DirectRoute,
    )


_routes.act(
    "cancel",
    "Cancel a job: at once if it does not run, else `cancelling` until its trainer has saved a checkpoint.",
    _cancelled,
)
_routes.delete("Delete a job that has ended, with its events, metrics, checkpoints and reports.", removal.delete_job)
_routes.act(
    "pause",
    "Pause a job: at once if it waits, else `pausing` until its trainer has saved a checkpoint and freed its slot.",
    _paused,
)
_routes.act(
    "resume",
    "Go on with a paused job: `resuming` until a worker takes it; `attempts[].resumed` then says whether exactly.",
    _resumed,
)


@router.get("/{job_id}/metrics")
def list_metrics(
    job_id: str,
    tenant: Tenant,
    session: ReadSession,
    *,
    name: Annotated[list[str] | None, Query(description="Only these series.")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Values on a page, at most.")] = 1000,
) -> Page[MetricOut]:
    """All values, series by series in order of their steps."""
    get(session, Job, tenant, job_id)
    rows = repository.metric_page(session, job_id, names=name or [], after=_metric_cursor(after), limit=limit + 1)
    return page_of(rows, limit, metric_out)


@router.get("/{job_id}/reports")
def list_reports(job_id: str, tenant: Tenant, session: ReadSession) -> Page[ReportOut]:
    """The files of the evaluations: report, page, sample images."""
    get(session, Job, tenant, job_id)
    found = files.of(session, [job_id], by=ResultFile.id)[job_id]
    rows = [file for file in found if file.kind in _REPORTS]
    return page_of(rows, len(rows), report_out)


@router.get("/{job_id}/samples")
def list_samples(
    job_id: str,
    tenant: Tenant,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> Page[ReportOut]:
    """The images that were drawn on the way, a file for each step, the first step first unless `order` is `desc`."""
    get(session, Job, tenant, job_id)
    query = lifecycle.samples_of(job_id)
    after = cursor(after, "file")
    query = paged(query, ResultFile.id, after=after, limit=limit + 1, ascending=order == "asc")
    return page_of(list(session.scalars(query)), limit, report_out)


def _metadata(request: Request) -> dict[str, str]:
    found = {}
    for name, value in request.query_params.items():
        if name.startswith("metadata"):
            matched = _METADATA.fullmatch(name)
            if matched is None:
                raise InvalidInputError("invalid_value", f"{name!r} is not metadata[key].", param=name, pointer=None)
            found[matched[1]] = value
    return found


def _metric_cursor(after: str | None) -> tuple[str, int] | None:
    if not after:
        return None
    name, _, step = after.rpartition(":")
    if not name or not re.fullmatch("[0-9]{1,9}", step):
        raise InvalidInputError("invalid_cursor", f"{after!r} is no id of a value.", param="after", pointer=None)
    return name, int(step)
