"""Models, retention sets, chain-of-forgetting analyses and keys."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.deps import ServicesDep
from api.keys import repository as keys
from api.web.backend import Backend, RefusedError
from api.web.rendering import page, to
from api.web.routing import Asking, Form, Page

router = APIRouter(route_class=Page, include_in_schema=False)
_ON_PAGE = 25
_MOST_KEYS = 100
_After = Annotated[str | None, Query(max_length=64)]
_KINDS = {"base_model": "Base models", "controlnet": "ControlNets", "annotator": "Annotators", "clip": "CLIP models"}


@router.get("/models")
async def list_models(request: Request, api: Asking, after: _After = None) -> Response:
    """What can be tuned here, what helps with it, and what was tuned, newest first."""
    tuned = await api.get("models", kind="fine_tuned", limit=_ON_PAGE, after=after)
    groups = [(title, (await api.get("models", kind=kind))["data"]) for kind, title in _KINDS.items()]
    return page(request, "models.html.j2", groups=[group for group in groups if group[1]], tuned=tuned)


@router.get("/more")
async def more(
    request: Request, api: Asking, used: ServicesDep, sets_after: _After = None, after: _After = None
) -> Response:
    """Retention sets, analyses and keys."""
    return await _more(request, api, used, sets_after=sets_after, after=after)


@router.post("/more/retention-sets")
async def make_retention_set(request: Request, api: Asking, used: ServicesDep, form: Form) -> Response:
    """Have a retention set made of a base model."""
    return await _changed(request, api, used, "retention_sets", {"model": form.get("model", "")})


@router.post("/more/analyses")
async def start_analysis(request: Request, api: Asking, used: ServicesDep, form: Form) -> Response:
    """Look at the chain of forgetting of a checkpoint or several."""
    checkpoints = form.get("checkpoints", "").replace(",", " ").split()
    return await _changed(request, api, used, "analyses", {"type": "chain_of_forgetting", "checkpoints": checkpoints})


@router.get("/analyses/{analysis_id}/reports/{filename}")
async def show_report(analysis_id: str, filename: str, api: Asking) -> Response:
    """A file of an analysis."""
    return api.forwarded("GET", "analyses", analysis_id, "reports", filename)


@router.get("/retention-sets/{set_id}/content")
async def download_retention_set(set_id: str, api: Asking) -> Response:
    """The images of a retention set."""
    return api.forwarded("GET", "retention_sets", set_id, "content")


async def _changed(request: Request, api: Backend, used: Any, kind: str, body: dict[str, Any]) -> Response:
    try:
        await api.post(kind, body=body)
    except RefusedError as refused:
        return await _more(request, api, used, status=refused.status, error=str(refused))
    return to(request, "more")


async def _more(
    request: Request,
    api: Backend,
    used: Any,
    *,
    sets_after: str | None = None,
    after: str | None = None,
    status: int = 200,
    error: str | None = None,
) -> Response:
    tenant = request.state.principal.tenant_id
    known = await used.units.read(tenant, partial(keys.list_of, tenant_id=tenant, limit=_MOST_KEYS))
    return page(
        request,
        "more.html.j2",
        status=status,
        error=error,
        sets=await api.get("retention_sets", limit=_ON_PAGE, after=sets_after),
        analyses=await api.get("analyses", limit=_ON_PAGE, after=after),
        models=(await api.get("models"))["data"],
        keys=known,
        own=request.state.principal.key_id,
    )
