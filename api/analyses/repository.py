from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.analyses.models import Analysis
from api.analyses.states import FINAL, AnalysisStatus
from api.work.models import WorkItem
from api.work.states import WorkState


def find(session: Session, tenant_id: str, analysis_id: str) -> Analysis | None:
    return session.scalar(select(Analysis).where(Analysis.id == analysis_id, Analysis.tenant_id == tenant_id))


def page(
    session: Session,
    tenant_id: str,
    *,
    after: str | None,
    limit: int,
    ascending: bool,
    status: AnalysisStatus | None = None,
) -> list[Analysis]:
    """Up to `limit` rows beyond the id `after`, newest first unless `ascending`."""
    query = select(Analysis).where(Analysis.tenant_id == tenant_id)
    if status:
        query = query.where(Analysis.status == status)
    if after:
        query = query.where(Analysis.id > after if ascending else Analysis.id < after)
    return list(session.scalars(query.order_by(Analysis.id if ascending else Analysis.id.desc()).limit(limit)))


def live_users_of(session: Session, dataset_id: str) -> list[str]:
    """Ids of analyses that are not final and need the data set."""
    uses = or_(Analysis.training_file == dataset_id, Analysis.validation_file == dataset_id)
    return list(session.scalars(select(Analysis.id).where(uses, Analysis.status.not_in(FINAL)).order_by(Analysis.id)))


def live_users_of_checkpoints(session: Session, tenant_id: str, checkpoint_ids: list[str]) -> list[str]:
    """Ids of the tenant's analyses that are not final and look at one of these."""
    wanted = set(checkpoint_ids)
    query = select(Analysis).where(Analysis.tenant_id == tenant_id, Analysis.status.not_in(FINAL))
    rows = session.scalars(query.order_by(Analysis.id))
    return [row.id for row in rows if wanted & {entry["id"] for entry in row.checkpoints}]


def open_work(session: Session, analysis_id: str) -> WorkItem | None:
    """The analysis' work that is not done, locked. Claims lock the item before the analysis: so must others."""
    query = select(WorkItem).where(WorkItem.subject_id == analysis_id, WorkItem.state != WorkState.DONE)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))
