from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy.orm import Session

from api.analyses import service
from api.analyses.kind import ANALYSES
from api.analyses.models import Analysis
from api.analyses.schemas import AnalysisCreate, AnalysisOut, analysis_out
from api.base_models import service as models
from api.routing import KeyedRoute
from api.subjects import files
from api.subjects.routes import Asked, Routes
from api.subjects.states import Status

router = APIRouter(prefix="/v1/analyses", tags=["analyses"], route_class=KeyedRoute)


def _shown(session: Session, rows: Sequence[Analysis]) -> list[AnalysisOut]:
    reports = files.of(session, [row.id for row in rows])
    return [analysis_out(row, reports[row.id]) for row in rows]


def _created(body: AnalysisCreate, asked: Asked) -> Analysis:
    cards = models.cards(asked.used.settings, asked.used.store)
    tuned = service.checked(asked.session, asked.tenant, body.checkpoints, cards)
    config = body.config(tuned[0].job)
    service.check_config(config, cards)
    return service.create(asked.session, asked.tenant, config, tuned, body.metadata)


_routes = Routes(router, Analysis, AnalysisOut, _shown)
_routes.create(
    AnalysisCreate,
    "Have checkpoints analysed: images are drawn with the base model taking over a growing part of the chain.",
    _created,
)
_routes.pages("The analyses, newest first.", prefix="ana", statuses=Status, about="Only analyses of this status.")
_routes.retrieve("One analysis, with its progress.")
_routes.act(
    "cancel",
    "End an analysis that is not final.",
    lambda asked, id_: ANALYSES.cancel(asked.session, asked.tenant, id_),
)
_routes.delete("Delete a final analysis and its files.", ANALYSES.delete)
_routes.report(
    "A file of the report (`chain.html`, `chain.json`, `chain.png`), by a link that expires.",
    lambda analysis: str(analysis.config["model"]),
)
