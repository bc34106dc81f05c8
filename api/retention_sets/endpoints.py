from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.base_models import service as models
from api.deps import After, Limit, Order, ReadSession, ServicesDep, Tenant
from api.errors import ConflictError, InvalidInputError, NotYetError
from api.ids import cursor
from api.objects import answers
from api.objects.answers import DownloadLink, Redirect
from api.retention_sets import service
from api.retention_sets.models import RetentionSet
from api.retention_sets.schemas import RetentionSetCreate, RetentionSetOut, retention_set_out
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from api.storage import StoredFile
from api.subjects.repository import get, page
from api.subjects.routes import Asked, Routes
from api.subjects.states import FINAL, Status
from difftune_core.config.resolution import resolve_retention_set

router = APIRouter(prefix="/v1/retention_sets", tags=["retention sets"], route_class=KeyedRoute)


def _created(body: RetentionSetCreate, asked: Asked) -> RetentionSet:
    card = models.card_for_job(asked.used.settings, asked.used.store, body.model)
    if body.training_file is None:
        wanted = service.sampled(card, resolve_retention_set(body, card))
    else:
        for name in body.stated_settings():
            message = f"{name} says how images are sampled; those of training_file are not."
            raise InvalidInputError("not_with_training_file", message, param=name)
        wanted = service.uploaded(asked.session, asked.tenant, card, body.training_file)
    return service.create(asked.session, asked.tenant, card, wanted, body.metadata)


_routes = Routes(router, RetentionSet, RetentionSetOut, lambda _, rows: [retention_set_out(row) for row in rows])
_routes.create(
    RetentionSetCreate,
    "Have a retention set made; the same settings for the same base model give the set that is there.",
    _created,
)


@router.get("")
def list_retention_sets(
    tenant: Tenant,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[Status | None, Query(description="Only sets of this status.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only sets of this base model.")] = None,
) -> Page[RetentionSetOut]:
    """The retention sets, newest first."""
    where = [RetentionSet.artifact.has(model=model)] if model else []
    where += [] if status is None else [service.is_seen_as(status)]
    rows = page(session, RetentionSet, tenant, *where, after=cursor(after, "rset"), limit=limit + 1, order=order)
    return page_of(rows, limit, retention_set_out)


_routes.retrieve("One retention set, with its progress.")
_routes.act(
    "cancel",
    "Give up a set that is not made yet; refused while a job waits for it.",
    lambda asked, id_: service.request_cancel(asked.session, asked.tenant, id_),
)
_routes.delete("Delete a set; refused while a job that is not final uses it.", service.delete)


@router.get("/{retention_set_id}/content", response_model=DownloadLink, responses={302: {}})
def retrieve_retention_set_content(
    retention_set_id: str, tenant: Tenant, used: ServicesDep, session: ReadSession, *, redirect: Redirect = True
) -> Response:
    """The images and labels as one safetensors file, behind a link that expires soon."""
    row = get(session, RetentionSet, tenant, retention_set_id)
    made = row.artifact
    if row.status != Status.SUCCEEDED or made.key is None or made.bytes is None or made.sha256 is None:
        message = f"The retention set {row.id} is {row.status} and has no images to download."
        kind = ConflictError if row.status in FINAL else NotYetError
        raise kind("retention_set_not_ready", message)
    found = StoredFile(made.key, f"{row.id}.safetensors", made.bytes, made.sha256)
    return answers.answer(used, found, f"the retention set {row.id}", redirect=redirect)
