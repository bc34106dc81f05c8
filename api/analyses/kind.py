from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.analyses.models import Analysis
from api.subjects.owned import OwnedKind
from api.subjects.states import FINAL
from api.work.states import WorkKind


class _Analyses(OwnedKind[Analysis]):
    """Looks at tuned models."""

    name = WorkKind.ANALYSE
    folder = "analyses"
    noun = "analysis"
    child = "analysis"
    activity = "worker.kinds.analysis:AnalysisRun"
    uses = frozenset({"ds", "ckpt"})
    row = Analysis

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """Analyses that are not final and need one of these."""
        query = select(Analysis).where(Analysis.tenant_id == tenant_id, Analysis.status.not_in(FINAL))
        rows = session.scalars(query.order_by(Analysis.id))
        return [row.id for row in rows if not row.needs.isdisjoint(ids)]


ANALYSES = _Analyses()
