from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query
from sqlalchemy.orm import Session

from api.base_models import service as models
from api.comparisons import repository, service
from api.comparisons.kind import COMPARISONS
from api.comparisons.models import Comparison
from api.comparisons.schemas import ComparisonCreate, ComparisonOut, comparison_out
from api.deps import After, Limit, Order, ReadSession, ServicesDep, Tenant, WriteSession
from api.ids import cursor
from api.jobs import images
from api.jobs.shared_images import tell_shared
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects import files
from api.subjects.repository import page
from api.subjects.routes import Asked, Routes
from api.subjects.states import Status

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"], route_class=KeyedRoute)


def _shown(session: Session, rows: Sequence[Comparison]) -> list[ComparisonOut]:
    ids = [row.id for row in rows]
    members, reports = repository.members_of(session, ids), files.of(session, ids)
    return [comparison_out(row, members[row.id], reports[row.id]) for row in rows]


def _created(body: ComparisonCreate, asked: Asked) -> Comparison:
    settings, store, session = asked.used.settings, asked.used.store, asked.session
    card = models.card_for_job(settings, store, body.model)
    configs = service.resolved(body, card, num_threads=settings.num_threads)
    models.check_companions(settings, store, configs[0], card)  # the same for all
    num_images = images.asked_of(session, asked.tenant, body, card)
    configs = service.fitted(session, configs, card, num_images=num_images)
    made = service.create(session, asked.tenant, body, configs, card)
    jobs = [member.job.id for member in repository.members_of(session, [made.id])[made.id]]
    files_named = (body.training_file, body.validation_file)
    asked.background.add_task(tell_shared, asked.used, asked.tenant, jobs, *files_named)
    return made


_routes = Routes(router, Comparison, ComparisonOut, _shown)
_routes.create(
    ComparisonCreate,
    "Run several methods over several seeds at equal budgets; one report of all when the last job has ended.",
    _created,
)


@router.get("")
def list_comparisons(
    tenant: Tenant,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[list[Status] | None, Query(description="Only those of these statuses.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only those on this base model.")] = None,
) -> Page[ComparisonOut]:
    """The comparisons, newest first."""
    where = [Comparison.status.in_(status)] if status else []
    where += [Comparison.model.in_([model])] if model else []
    rows = page(session, Comparison, tenant, *where, after=cursor(after, "cmp"), limit=limit + 1, order=order)
    return page_of(_shown(session, rows), limit, lambda shown: shown)


_routes.retrieve("One comparison, with its jobs and, once succeeded, the files of its report.")
_routes.act(
    "cancel",
    "Cancel every job that is not final. There is no report then; jobs that had succeeded keep theirs.",
    lambda asked, id_: COMPARISONS.cancel(asked.session, asked.tenant, id_),
)


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


_routes.report(
    "A file of the joint report (`comparison.json`, `comparison.html`, `comparison.png`), by a link that expires.",
    lambda comparison: comparison.suffix or comparison.model,
)
