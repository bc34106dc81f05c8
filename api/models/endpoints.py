from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.deps import ServicesDep, Tenant
from api.models import service
from api.models.schemas import Model, model_out
from api.schemas import Page, page_of

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(_: Tenant, used: ServicesDep) -> Page[Model]:
    """The base models that can be tuned here."""
    found = list(service.cards(used.settings, used.store).values())
    return page_of(found, len(found), model_out)


@router.get("/{model_id}")
def retrieve_model(model_id: str, _: Tenant, used: ServicesDep) -> Model:
    """One base model."""
    return model_out(service.card(used.settings, used.store, model_id))


@router.get("/{model_id}/methods/{method}/schema", response_model=dict[str, Any])
def retrieve_method_schema(model_id: str, method: str, _: Tenant, used: ServicesDep) -> JSONResponse:
    """JSON Schema (2020-12) of a job's `method`, with the defaults of this model."""
    schema = service.method_schema(service.card(used.settings, used.store, model_id), method)
    return JSONResponse(schema, media_type="application/schema+json")
