from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from api.analyses import service
from api.analyses.kind import ANALYSES
from api.analyses.models import Analysis
from api.analyses.schemas import AnalysisCreate, AnalysisOut, analysis_out
from api.analyses.states import AnalysisStatus
from api.base_models import service as models
from api.deps import After, Limit, OnceDep, Order, ReadSession, Services, ServicesDep, Tenant, WriteSession
from api.ids import cursor
from api.objects import answers
from api.objects.answers import DownloadLink, Redirect
from api.objects.downloads import saved_as
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects import files
from api.subjects.repository import page

router = APIRouter(prefix="/v1/analyses", tags=["analyses"], route_class=KeyedRoute)


@router.post("")
def create_analysis(
    body: AnalysisCreate,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> AnalysisOut:
    """Have checkpoints analysed: images are drawn with the base model taking over a growing part of the chain."""
    background.add_task(used.doorbell.ring)
    return once.answer(session, body, AnalysisOut, lambda: _created(body, tenant, used, session))


def _created(body: AnalysisCreate, tenant: str, used: Services, session: Session) -> AnalysisOut:
    cards = models.cards(used.settings, used.store)
    tuned = service.checked(session, tenant, body.checkpoints, cards)
    config = body.config(tuned[0].job)
    service.check_config(config, cards)
    made = service.create(session, tenant, config, tuned, body.metadata)
    return analysis_out(made, [])


@router.get("")
def list_analyses(
    tenant: Tenant,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[AnalysisStatus | None, Query(description="Only analyses of this status.")] = None,
) -> Page[AnalysisOut]:
    """The analyses, newest first."""
    where = [Analysis.status == status] if status else []
    rows = page(session, Analysis, tenant, *where, after=cursor(after, "ana"), limit=limit + 1, order=order)
    reports = files.of(session, [row.id for row in rows])
    return page_of(rows, limit, lambda row: analysis_out(row, reports[row.id]))


@router.get("/{analysis_id}")
def retrieve_analysis(analysis_id: str, tenant: Tenant, session: ReadSession) -> AnalysisOut:
    """One analysis, with its progress."""
    return _shown(session, ANALYSES.get(session, tenant, analysis_id))


@router.post("/{analysis_id}/cancel")
def cancel_analysis(
    analysis_id: str,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> AnalysisOut:
    """End an analysis that is not final."""

    def cancel() -> AnalysisOut:
        return _shown(session, ANALYSES.cancel(session, tenant, analysis_id))

    background.add_task(used.doorbell.ring)
    return once.answer(session, None, AnalysisOut, cancel)


@router.delete("/{analysis_id}")
def delete_analysis(
    analysis_id: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
) -> Deleted:
    """Delete a final analysis and its files."""
    background.add_task(delete_objects, used.store, ANALYSES.delete(session, tenant, analysis_id))
    return Deleted(id=analysis_id, object="analysis")


@router.get("/{analysis_id}/reports/{filename}", response_model=DownloadLink, responses={302: {}})
def retrieve_analysis_report(
    analysis_id: str,
    filename: str,
    tenant: Tenant,
    used: ServicesDep,
    session: ReadSession,
    *,
    redirect: Redirect = True,
) -> Response:
    """A file of the report (`chain.html`, `chain.json`, `chain.png`), by a link that expires."""
    row = ANALYSES.get(session, tenant, analysis_id)
    found = saved_as(files.report(session, row, filename), row.config["model"], row.id)
    return answers.answer(used, found, f"analysis {row.id}", redirect=redirect)


def _shown(session: Session, analysis: Analysis) -> AnalysisOut:
    return analysis_out(analysis, files.of(session, [analysis.id])[analysis.id])
