from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from api.deps import After, Limit, OnceDep, Order, ReadSession, Services, ServicesDep, Tenant, WriteSession
from api.errors import ConflictError
from api.ids import cursor
from api.images import service
from api.images.kind import GENERATIONS, Generation
from api.images.schemas import Form, GenerationCreate, GenerationOut
from api.images.shown import generation_out, image_out, listed
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects.models import ResultFile
from api.subjects.repository import get, page
from api.subjects.states import FINAL, Status

router = APIRouter(prefix="/v1/images/generations", tags=["images"], route_class=KeyedRoute)
_FIRST_LOOK_S, _LONGEST_LOOK_S, _SLOWER = 0.1, 1.0, 1.3
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": GenerationOut, "description": "It takes longer: poll `GET /v1/images/generations/{id}`."}
}
ResponseFormat = Annotated[Form, Query(description="Links, or the bytes in base64.")]


@router.post("", responses=_ACCEPTED)
async def create_generation(
    body: GenerationCreate, *, tenant: Tenant, used: ServicesDep, once: OnceDep, response: Response
) -> GenerationOut:
    """Have images drawn by a base model, a result or a checkpoint. Jobs come first; what takes long is answered 202."""

    def create(session: Session) -> GenerationOut:
        def make() -> GenerationOut:
            row = service.create(session, used.settings, used.store, tenant, body)
            return generation_out(row, used.settings)

        return once.answer(session, body, GenerationOut, make)

    made = await used.units.write(tenant, create)
    await used.units.other(tenant, used.doorbell.ring)
    most = used.settings.images_wait_s
    found, images = await _ended(used, tenant, made.id, most if body.wait_s is None else min(most, body.wait_s))
    if found.status not in FINAL:
        response.status_code = 202
        response.headers["location"] = f"{router.prefix}/{found.id}"
        response.headers["retry-after"] = "1"
        return found
    if found.status != Status.SUCCEEDED:
        if (failed := found.error) is not None:
            raise ConflictError(failed.code, failed.message, param=failed.param, generation=found.id)
        raise ConflictError("generation_cancelled", f"{found.id} was cancelled.", generation=found.id)
    return await _filled(used, tenant, found, images, body.response_format)


@router.get("")
def list_generations(
    tenant: Tenant,
    used: ServicesDep,
    session: ReadSession,
    *,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    status: Annotated[Status | None, Query(description="Only those of this status.")] = None,
) -> Page[GenerationOut]:
    """What was asked for, newest first, without the images."""
    where = [Generation.status == status] if status else []
    since = cursor(after, GENERATIONS.prefix)
    rows = page(session, Generation, tenant, *where, after=since, limit=limit + 1, order=order)
    return page_of(listed(used.settings, rows), limit, lambda shown: shown)


@router.get("/{generation_id}")
async def retrieve_generation(
    generation_id: str, *, tenant: Tenant, used: ServicesDep, response_format: ResponseFormat = "url"
) -> GenerationOut:
    """How far the images are, and once they are there the images."""
    found, images = await used.units.read(tenant, lambda session: _looked(session, used, tenant, generation_id))
    return await _filled(used, tenant, found, images, response_format)


@router.post("/{generation_id}/cancel")
def cancel_generation(
    generation_id: str,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> GenerationOut:
    """End what is not final; nothing is kept of it."""

    def cancel() -> GenerationOut:
        return generation_out(GENERATIONS.cancel(session, tenant, generation_id), used.settings)

    background.add_task(used.doorbell.ring)
    return once.answer(session, None, GenerationOut, cancel)


@router.delete("/{generation_id}")
def delete_generation(
    generation_id: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
) -> Deleted:
    """Delete what is final, with its images."""
    background.add_task(delete_objects, used.store, GENERATIONS.delete(session, tenant, generation_id))
    return Deleted(id=generation_id, object="image.generation")


Found = tuple[GenerationOut, list[ResultFile]]


def _looked(session: Session, used: Services, tenant: str, generation_id: str) -> Found:
    row = get(session, Generation, tenant, generation_id)
    files = service.images(session, row.id) if row.status == Status.SUCCEEDED else []
    session.expunge_all()  # they are read after the session
    return generation_out(row, used.settings), list(files)


async def _ended(used: Services, tenant: str, generation_id: str, most_s: float) -> Found:
    """The generation once it is final, or as it is after that time. No connection is held while it waits."""
    deadline, wait_s = time.monotonic() + most_s, _FIRST_LOOK_S
    while True:
        found = await used.units.read(tenant, lambda session: _looked(session, used, tenant, generation_id))
        left_s = deadline - time.monotonic()
        if found[0].status in FINAL or left_s <= 0:
            return found
        await asyncio.sleep(min(wait_s, left_s))
        wait_s = min(_LONGEST_LOOK_S, wait_s * _SLOWER)


async def _filled(
    used: Services, tenant: str, found: GenerationOut, images: list[ResultFile], form: Form
) -> GenerationOut:
    if found.status != Status.SUCCEEDED:
        return found

    def fill() -> GenerationOut:
        data = [image_out(file, found.id, form, settings=used.settings, store=used.store) for file in images]
        return found.model_copy(update={"data": data})

    return await used.units.other(tenant, fill)
