from __future__ import annotations

from typing import Literal

import structlog
from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.db import is_full
from api.deps import Services, ServicesDep
from api.error_handlers import NO_ROOM
from api.errors import UnavailableError
from api.routing import UnitRoute
from api.schemas import Out
from api.storage import StoreError

router = APIRouter(tags=["health"], route_class=UnitRoute)
_NO_ROOM = "no room left"
log = structlog.get_logger(__name__)


class Health(Out):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Out):
    """Every part that requests need was asked, and answered."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok"]]


@router.get("/healthz")
def healthz() -> Health:
    """Whether the process lives."""
    return Health()


@router.get("/readyz")
def readyz(used: ServicesDep) -> Readiness:
    """Whether requests can be served: database and object store are asked."""
    checks = {"database": _database(used), "store": _store(used)}
    failing = [name for name, answer in checks.items() if answer != "ok"]
    if failing:
        raise UnavailableError(
            "not_ready", f"Not ready: {', '.join(f'{name} ({checks[name]})' for name in failing)}.", checks=checks
        )
    return Readiness(checks=dict.fromkeys(checks, "ok"))


def _database(used: Services) -> str:
    try:
        with used.database.read() as session:
            session.execute(text("SELECT version_num FROM alembic_version"))
    except SQLAlchemyError as error:
        log.warning("database_not_ready", error=str(error))
        return _NO_ROOM if is_full(error) else "no answer, or no tables"
    return "ok"


def _store(used: Services) -> str:
    try:
        used.store.check()
    except StoreError as error:
        log.warning("store_not_ready", error=str(error))
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM
        return _NO_ROOM if full else "no answer"
    return "ok"
