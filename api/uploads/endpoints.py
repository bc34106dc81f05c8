from __future__ import annotations

import time
from functools import partial
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.deps import (
    After,
    Limit,
    OnceDep,
    Order,
    ReadSession,
    Services,
    ServicesDep,
    Tenant,
    WriteSession,
    body_chunks,
    in_receiving_thread,
    keep_received,
)
from api.ids import cursor, new_id
from api.multipart import store_form
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from api.storage import ObjectInfo
from api.storage.cleaning import delete_objects
from api.uploads import repository, service
from api.uploads.models import UploadPart
from api.uploads.schemas import (
    PartOut,
    PartPresign,
    PresignedPart,
    UploadComplete,
    UploadCreate,
    UploadOut,
    part_out,
    upload_out,
)
from api.uploads.states import UploadStatus

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=KeyedRoute)
_PART_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary", "description": "At most 64 MB."}},
                }
            }
        },
    }
}


@router.post("")
def create_upload(
    body: UploadCreate, tenant: Tenant, used: ServicesDep, session: WriteSession, once: OnceDep
) -> UploadOut:
    """Announce a file that will arrive in parts."""
    return once.answer(
        session, body, UploadOut, lambda: upload_out(service.create(session, used.settings, tenant, body), None)
    )


@router.get("/{upload_id}")
def retrieve_upload(upload_id: str, tenant: Tenant, session: ReadSession) -> UploadOut:
    """One upload."""
    upload = service.get(session, tenant, upload_id)
    return upload_out(upload, session.get(Dataset, upload.dataset_id) if upload.dataset_id else None)


@router.post("/{upload_id}/parts", openapi_extra=_PART_FORM)
async def create_part(upload_id: str, tenant: Tenant, used: ServicesDep, once: OnceDep, request: Request) -> PartOut:
    """Send a part through the API, as the multipart field `data`: in any order, also several at once."""

    def look(session: Session) -> None:
        if not once.knows(session):
            service.open_upload(session, tenant, upload_id)

    await used.units.read(tenant, look)
    part_id = new_id("part")
    stored = await in_receiving_thread(used, tenant, _receive_part, used, service.part_key(upload_id, part_id), request)

    def add(session: Session) -> PartOut:
        upload = service.open_upload(session, tenant, upload_id, lock=True)  # not completed or cancelled meanwhile
        part = service.add_part(session, used.settings, upload, part_id=part_id, stored=stored, announced=stored.bytes)
        return part_out(part)

    body = {"sha256": stored.sha256}
    made = await keep_received(
        used, tenant, stored.key, lambda session: once.answer(session, body, PartOut, partial(add, session))
    )
    if made.id != part_id:  # sent again
        await used.units.other(tenant, lambda: used.store.delete(stored.key))
    return made


def _receive_part(used: Services, key: str, request: Request) -> ObjectInfo:
    return store_form(
        request.headers.get("content-type"),
        body_chunks(request),
        store=used.store,
        key=key,
        field="data",
        max_bytes=used.settings.max_part_bytes,
    ).file


@router.post("/{upload_id}/parts/presign")
def presign_part(
    upload_id: str,
    body: PartPresign,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
) -> PresignedPart:
    """A link for a part that goes straight to the store: one PUT of exactly so many bytes."""

    def presign() -> PresignedPart:
        upload = service.open_upload(session, tenant, upload_id, lock=True)
        part_id = new_id("part")
        part = service.add_part(session, used.settings, upload, part_id=part_id, stored=None, announced=body.bytes)
        return _presigned(used, part, body.bytes)

    return once.answer(session, body, PresignedPart, presign)


@router.post("/{upload_id}/parts/{part_id}/presign")
def presign_part_again(
    upload_id: str,
    part_id: str,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
) -> PresignedPart:
    """A new link for a part that was presigned and has not arrived: the old one has expired, or was lost."""

    def presign() -> PresignedPart:
        upload = service.open_upload(session, tenant, upload_id, lock=True)
        part = service.renew_part(session, upload, part_id)
        return _presigned(used, part, part.announced or 0)

    return once.answer(session, None, PresignedPart, presign)


def _presigned(used: Services, part: UploadPart, num_bytes: int) -> PresignedPart:
    expires_s = used.settings.link_ttl_s
    return PresignedPart(
        id=part.id,
        created_at=int(part.created_at),
        upload_id=part.upload_id,
        url=used.store.url_put(part.key, num_bytes=num_bytes, expires_s=expires_s),
        expires_at=int(time.time() + expires_s),
    )


@router.get("/{upload_id}/parts")
def list_parts(
    upload_id: str,
    tenant: Tenant,
    used: ServicesDep,
    *,
    after: After = None,
    limit: Limit = 100,
    order: Order = "asc",
) -> Page[PartOut]:
    """Which parts have arrived, oldest first."""
    since = cursor(after, "part")
    with used.database.read() as session:
        service.get(session, tenant, upload_id)
        rows = repository.part_page(session, upload_id, after=since, limit=limit + 1, ascending=order == "asc")
    seen = service.seen_in_store(used.store, rows)
    return page_of(rows, limit, lambda part: part_out(part, seen.get(part.id)))


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str,
    body: UploadComplete,
    *,
    tenant: Tenant,
    used: ServicesDep,
    once: OnceDep,
    background: BackgroundTasks,
) -> UploadOut:
    """Make one file of the parts. Its `file.id` is a data set, which is validated from now on.

    Done again, it answers with the same file.
    """
    parts = await used.units.read(tenant, lambda session: service.parts_of(session, tenant, upload_id))
    seen = await used.units.other(tenant, lambda: service.seen_in_store(used.store, parts))

    unused: list[str] = []

    def complete(session: Session) -> UploadOut:
        upload = service.get(session, tenant, upload_id, lock=True)
        if upload.status == UploadStatus.COMPLETED:
            return upload_out(upload, service.completed_as(session, upload, body))
        upload = service.open_upload(session, tenant, upload_id, lock=True)
        dataset = service.complete(session, upload, body, seen)
        unused.extend(service.left_over(session, upload, dataset))
        return upload_out(upload, dataset)

    shown = await used.units.write(
        tenant, lambda session: once.answer(session, body, UploadOut, partial(complete, session))
    )
    background.add_task(used.doorbell.ring)
    background.add_task(delete_objects, used.store, unused)
    return shown


@router.post("/{upload_id}/cancel")
def cancel_upload(
    upload_id: str,
    *,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    once: OnceDep,
    background: BackgroundTasks,
) -> UploadOut:
    """Give up an upload; its parts are deleted."""

    def cancel() -> UploadOut:
        upload = service.open_upload(session, tenant, upload_id, lock=True)
        upload.status = UploadStatus.CANCELLED
        background.add_task(delete_objects, used.store, service.left_over(session, upload, None))
        return upload_out(upload, None)

    return once.answer(session, None, UploadOut, cancel)
