from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.base_models import service
from api.base_models.schemas import Kind, Model, model_out
from api.deps import ServicesDep, Tenant
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from difftune_core.config.card import BaseModelCard, CompanionCard

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=KeyedRoute)


@router.get("")
def list_models(_: Tenant, used: ServicesDep, kind: Kind = "base_model") -> Page[Model]:
    """The base models that can be tuned here; or with `kind` the ControlNets, annotators or CLIP models for them."""
    found: list[BaseModelCard | CompanionCard] = []
    if kind == "base_model":
        found += service.cards(used.settings, used.store).values()
    else:
        found += [card for card in service.companions(used.settings, used.store).values() if card.kind == kind]
    return page_of(found, len(found), model_out)


@router.get("/{model_id}")
def retrieve_model(model_id: str, _: Tenant, used: ServicesDep) -> Model:
    """One model of any of these kinds."""
    return model_out(service.any_card(used.settings, used.store, model_id))


@router.get("/{model_id}/methods/{method}/schema", response_model=dict[str, Any])
def retrieve_method_schema(model_id: str, method: str, _: Tenant, used: ServicesDep) -> JSONResponse:
    """JSON Schema (2020-12) of a job's `method`, with the defaults of this model."""
    schema = service.method_schema(service.card(used.settings, used.store, model_id), method)
    return JSONResponse(schema, media_type="application/schema+json")
