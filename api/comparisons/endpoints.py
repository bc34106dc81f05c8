from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from api.base_models import service as models
from api.comparisons import repository, service
from api.comparisons.kind import COMPARISONS
from api.comparisons.models import Comparison
from api.comparisons.schemas import ComparisonCreate, ComparisonOut, comparison_out
from api.comparisons.states import ComparisonStatus
from api.deps import After, Limit, OnceDep, Order, ReadSession, Services, ServicesDep, Tenant, WriteSession
from api.ids import cursor
from api.jobs.shared_images import tell_shared
from api.objects import answers
from api.objects.answers import DownloadLink, Redirect
from api.objects.downloads import saved_as
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects import files
from api.subjects.repository import page

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"], route_class=KeyedRoute)


@router.post("")
def create_comparison(
    body: ComparisonCreate,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> ComparisonOut:
    """Run several methods over several seeds at equal budgets; one report of all when the last job has ended."""
    background.add_task(used.doorbell.ring)
    return once.answer(session, body, ComparisonOut, lambda: _created(body, tenant, used, session, background))


def _created(
    body: ComparisonCreate, tenant: str, used: Services, session: Session, background: BackgroundTasks
) -> ComparisonOut:
    card = models.card_for_job(used.settings, used.store, body.model)
    configs = service.resolved(body, card, num_threads=used.settings.num_threads)
    models.check_companions(used.settings, used.store, configs[0], card)  # the same for all
    made = service.create(session, tenant, body, configs, card)
    jobs = [member.job.id for member in repository.members_of(session, [made.id])[made.id]]
    background.add_task(tell_shared, used, tenant, jobs, body.training_file, body.validation_file)
    return _shown(session, made)


@router.get("")
def list_comparisons(
    tenant: Tenant,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[list[ComparisonStatus] | None, Query(description="Only those of these statuses.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only those on this base model.")] = None,
) -> Page[ComparisonOut]:
    """The comparisons, newest first."""
    where = [Comparison.status.in_(status)] if status else []
    where += [Comparison.model.in_([model])] if model else []
    rows = page(session, Comparison, tenant, *where, after=cursor(after, "cmp"), limit=limit + 1, order=order)
    ids = [row.id for row in rows]
    members, reports = repository.members_of(session, ids), files.of(session, ids)
    return page_of(rows, limit, lambda row: comparison_out(row, members[row.id], reports[row.id]))


@router.get("/{comparison_id}")
def retrieve_comparison(comparison_id: str, tenant: Tenant, session: ReadSession) -> ComparisonOut:
    """One comparison, with its jobs and, once succeeded, the files of its report."""
    return _shown(session, COMPARISONS.get(session, tenant, comparison_id))


@router.post("/{comparison_id}/cancel")
def cancel_comparison(
    comparison_id: str,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> ComparisonOut:
    """Cancel every job that is not final. There is no report then; jobs that had succeeded keep theirs."""

    def cancel() -> ComparisonOut:
        return _shown(session, COMPARISONS.cancel(session, tenant, comparison_id))

    background.add_task(used.doorbell.ring)  # a worker that holds a job looks at once
    return once.answer(session, None, ComparisonOut, cancel)


@router.delete("/{comparison_id}")
def delete_comparison(
    comparison_id: str,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    background: BackgroundTasks,
    *,
    jobs: Annotated[bool, Query(description="Delete its jobs with it, and all that they made.")] = False,
) -> Deleted:
    """Delete a final comparison and its joint report. Its jobs stay, belong to nothing any more and can be deleted."""
    keys = COMPARISONS.delete(session, tenant, comparison_id, with_jobs=jobs)
    background.add_task(delete_objects, used.store, keys)
    return Deleted(id=comparison_id, object="comparison")


@router.get("/{comparison_id}/reports/{filename}", response_model=DownloadLink, responses={302: {}})
def retrieve_comparison_report(
    comparison_id: str,
    filename: str,
    tenant: Tenant,
    used: ServicesDep,
    session: ReadSession,
    *,
    redirect: Redirect = True,
) -> Response:
    """A file of the joint report (`comparison.json`, `comparison.html`, `comparison.png`), by a link that expires."""
    row = COMPARISONS.get(session, tenant, comparison_id)
    found = saved_as(files.report(session, row, filename), row.suffix or row.model, row.id)
    return answers.answer(used, found, f"comparison {row.id}", redirect=redirect)


def _shown(session: Session, row: Comparison) -> ComparisonOut:
    members, reports = repository.members_of(session, [row.id]), files.of(session, [row.id])
    return comparison_out(row, members[row.id], reports[row.id])
