"""The application. `create_app` is a list, top to bottom; nothing is built at import.

`uvicorn api.app:create_app --factory` serves it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pkgutil import resolve_name
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig

from api import __version__, error_handlers
from api.addresses import host_of_url, in_url, reached_at
from api.admission import PATIENCE_S
from api.analyses.endpoints import router as analyses
from api.checkpoints.endpoints import router as checkpoints
from api.coalescing import CoalescedReads
from api.comparisons.endpoints import router as comparisons
from api.datasets.endpoints import router as datasets
from api.db import Database
from api.deps import Services, tenant
from api.docs.endpoints import router as docs
from api.ending import MakesRoom
from api.events.endpoints import router as events
from api.events.following import Following
from api.files.endpoints import router as files
from api.health.endpoints import router as health
from api.images.endpoints import router as images
from api.jobs.endpoints import add_status
from api.jobs.endpoints import router as jobs
from api.jobs.shown import answered
from api.keys.known import KnownKeys
from api.keys.last_use import LastUse
from api.keys.repository import note_uses
from api.logs.endpoints import router as logs
from api.middleware import BodyLimit, KnownHosts, PlainHeads, RequestContext
from api.models.endpoints import router as models
from api.objects.endpoints import router as objects
from api.queue import Doorbell
from api.retention_sets.endpoints import router as retention_sets
from api.room import Reserve
from api.routing import UnitRoute
from api.schemas import Problem
from api.settings import Settings
from api.storage import open_store
from api.strict import StrictRoute, only_known_parameters
from api.subjects.kinds import kinds
from api.tracing import flush_tracing
from api.units import MAX_CONNECTIONS, Units
from api.uploads.endpoints import router as uploads
from api.verbs import Head
from api.web import router as web
from api.web.refusals import PagesForBrowsers

_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; `code` says why.", **_PROBLEM},
    "5XX": {"description": "Failed on our side.", **_PROBLEM},
}
_UNTRACED = ("/v1/objects/", "/healthz", "/readyz")  # the first are signed links, which no span may hold
_TRACES: TelemetryConfig = {  # of requests, once `configure_tracing` has set a provider; metrics and logs are ours
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: scope["path"].startswith(_UNTRACED),
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The REST API over the database and the store that the settings name. Tables must be there (`migrations`)."""
    settings = settings or Settings()
    app = FastAPI(
        title="difftune",
        summary="Fine-tunes diffusion models with Diff-Tuning, in the shapes of OpenAI's fine-tuning API.",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,  # both pages load scripts from a CDN; `api.docs` has one that does not
        redoc_url=None,
        openapi_url=None,  # a route of ours, below
        redirect_slashes=False,  # the redirect would name the scheme and host that a proxy has replaced
        generate_unique_id_function=_operation_id,
        responses=_PROBLEMS,
        telemetry=_TRACES,
    )
    app.state.services = _services(settings)
    app.router.route_class = UnitRoute

    app.add_middleware(Head)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(KnownHosts, hosts=_hosts(settings))
    app.add_middleware(PlainHeads)
    app.add_middleware(RequestContext)
    app.add_middleware(PagesForBrowsers)  # the last added is the first to run
    error_handlers.install(app)
    app.add_middleware(MakesRoom, reserve=Reserve(settings.data_dir))

    _include_routers(app)
    app.openapi = lambda: _openapi(app, settings.base_url)  # type: ignore[method-assign]  # as FastAPI wants it
    return app


def _include_routers(app: FastAPI) -> None:
    checked = [Depends(only_known_parameters)]
    needs_key = [Depends(tenant), *checked]
    add_status(app.router, needs_key)  # is asked for most: is looked for first
    for router in (models, uploads, datasets, files, jobs, events, logs):
        app.include_router(router, dependencies=needs_key)
    for router in (checkpoints, comparisons, retention_sets, analyses, images):
        app.include_router(router, dependencies=needs_key)
    for path in (kind.router for kind in kinds() if kind.router is not None):  # of other packages
        app.include_router(resolve_name(path), dependencies=needs_key)
    for router in (objects, health, docs, web, _description(app)):
        app.include_router(router, dependencies=checked)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.services.last_use.close()
    await app.state.services.following.close()
    app.state.services.database.close()
    await anyio.to_thread.run_sync(flush_tracing)


def _services(settings: Settings) -> Services:
    database = Database(
        settings.database, lease_s=settings.lease_s, patience_s=PATIENCE_S, max_connections=MAX_CONNECTIONS
    )
    units = Units(database)
    return Services(
        settings=settings,
        database=database,
        store=open_store(settings),
        doorbell=Doorbell(settings, database),
        units=units,
        known_keys=KnownKeys(settings.key_cache_s),
        known_sessions=KnownKeys(settings.key_cache_s),
        last_use=LastUse(lambda used_at: units.write("", lambda session: note_uses(session, used_at))),
        following=Following(database),
        jobs_asked=CoalescedReads(lambda ids: units.read_for_many(partial(answered, ids)), database.version),
    )


def _hosts(settings: Settings) -> list[str]:
    """The hosts that the operator names, and those that are ours by themselves: in links, and where we listen."""
    return [*settings.allowed_hosts, in_url(reached_at(settings.host)), in_url(host_of_url(settings.base_url))]


def _operation_id(route: APIRoute) -> str:
    return route.name


def _description(app: FastAPI) -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return router


def _openapi(app: FastAPI, base_url: str) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
            servers=[{"url": base_url}],
        )
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        app.openapi_schema = schema
    return app.openapi_schema
