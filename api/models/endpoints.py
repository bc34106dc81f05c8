from __future__ import annotations

from typing import Any

from fastapi import APIRouter, BackgroundTasks
from fastapi.responses import JSONResponse

from api.base_models import service
from api.deps import After, Limit, ReadSession, ServicesDep, Tenant, WriteSession
from api.models import service as tuned
from api.models.schemas import Kind, Model, model_out, tuned_out
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from difftune_core.config.card import BaseModelCard, CompanionCard

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=KeyedRoute)


@router.get("")
def list_models(
    tenant: Tenant,
    used: ServicesDep,
    session: ReadSession,
    *,
    kind: Kind | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[Model]:
    """The base models that can be tuned here, then the tuned ones: results and checkpoints of your jobs, newest first.

    With `kind` those of one kind: `fine_tuned`, or the ControlNets, annotators or CLIP models beside base models.
    """
    bases = service.cards(used.settings, used.store)
    cards: list[BaseModelCard | CompanionCard] = []
    if kind in {None, "base_model"}:
        cards += bases.values()
    elif kind != "fine_tuned":
        cards += [card for card in service.companions(used.settings, used.store).values() if card.kind == kind]
    behind = tuned.behind([card.id for card in cards], after)
    models = [model_out(card) for card in cards[behind:]][: limit + 1]
    if kind in {None, "fine_tuned"} and len(models) <= limit:
        since = after if after and tuned.is_tuned(after) else None
        rows = tuned.page(session, tenant, after=since, limit=limit + 1 - len(models))
        models += [tuned_out(row.checkpoint, row.job, bases.get(row.job.model)) for row in rows]
    return page_of(models, limit, lambda model: model)


@router.get("/{model_id}")
def retrieve_model(model_id: str, tenant: Tenant, used: ServicesDep, session: ReadSession) -> Model:
    """One model of any of these kinds."""
    if not tuned.is_tuned(model_id):
        return model_out(service.any_card(used.settings, used.store, model_id))
    found = tuned.tuned(session, tenant, model_id)
    return tuned_out(found.checkpoint, found.job, service.cards(used.settings, used.store).get(found.job.model))


@router.delete("/{model_id}")
def delete_model(
    model_id: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
) -> Deleted:
    """Delete a tuned model, with its files. What queued or running work needs is kept (409, with who needs it)."""
    background.add_task(delete_objects, used.store, tuned.delete(session, tenant, model_id))
    return Deleted(id=model_id, object="model")


@router.get("/{model_id}/methods/{method}/schema", response_model=dict[str, Any])
def retrieve_method_schema(model_id: str, method: str, _: Tenant, used: ServicesDep) -> JSONResponse:
    """JSON Schema (2020-12) of a job's `method`, with the defaults of this model."""
    schema = service.method_schema(service.card(used.settings, used.store, model_id), method)
    return JSONResponse(schema, media_type="application/schema+json")
