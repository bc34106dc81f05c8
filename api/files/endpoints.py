from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from api import quotas
from api.datasets import service as datasets
from api.datasets.models import Dataset
from api.deps import (
    After,
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
from api.errors import InvalidInputError, NotYetError
from api.files import service
from api.files.schemas import File, file_of_dataset, file_of_image, file_of_result
from api.idempotency.service import Once
from api.ids import new_id
from api.jobs.models import Job
from api.multipart import StoredForm, store_form
from api.objects import answers
from api.objects.answers import Redirect
from api.objects.lost import look_for
from api.routing import KeyedRoute
from api.schemas import Deleted, Filename, Page, page_of
from api.storage import ObjectStore, StoredFile
from api.storage.base import disposition
from api.storage.cleaning import delete_objects
from api.vision_files import service as images
from api.vision_files.kind import VisionFile
from difftune_core.config.dataset import DatasetOptions

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=KeyedRoute)
_FILENAME: TypeAdapter[str] = TypeAdapter(Filename)
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # Python takes ` 1`, `+1`, `1_0` and `nan` too
_FILE_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "An archive of images; of `vision` one image.",
                        },
                        "purpose": {"type": "string", "enum": ["fine-tune", "vision"]},
                        **DatasetOptions.model_json_schema()["properties"],
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_FILE_FORM)
async def create_file(
    tenant: Tenant, used: ServicesDep, once: OnceDep, request: Request, background: BackgroundTasks
) -> File:
    """Upload an archive of images in one request: a data set, which is validated from now on.

    For large archives use `/v1/uploads`. With the purpose `vision`: an image, which a ControlNet can follow.
    """
    dataset_id = new_id("ds")
    key = f"datasets/{dataset_id}/file"
    form = await in_receiving_thread(used, tenant, _receive_file, used, key, request)
    if form.fields["purpose"] == images.PURPOSE:
        return await _keep_image(tenant, used, once, form)

    def create(session: Session) -> File:
        quotas.reserve(session, used.settings, tenant, form.file.bytes, param="file")
        dataset = datasets.create(
            session,
            tenant,
            filename=form.filename,
            purpose=form.fields["purpose"],
            parts=[{"key": key, "bytes": form.file.bytes}],
            dataset_id=dataset_id,
            options=_options(form),
        )
        return file_of_dataset(dataset)

    body = {"sha256": form.file.sha256, "filename": form.filename, **form.fields}
    made = await keep_received(
        used, tenant, key, lambda session: once.answer(session, body, File, partial(create, session))
    )
    if made.id != dataset_id:  # sent again
        await used.units.other(tenant, lambda: used.store.delete(key))
    background.add_task(used.doorbell.ring)
    return made


async def _keep_image(tenant: str, used: Services, once: Once, form: StoredForm) -> File:
    file_id, received = new_id("file"), form.file

    def keep() -> StoredFile:
        try:
            return images.keep(used.store, received.key, file_id, form.filename, received.bytes)
        finally:
            used.store.delete(received.key)

    stored = await used.units.other(tenant, keep)

    def create(session: Session) -> File:
        quotas.reserve(session, used.settings, tenant, stored.bytes, param="file")
        return file_of_image(images.create(session, tenant, file_id, stored))

    body = {"sha256": stored.sha256, "filename": form.filename, **form.fields}
    made = await keep_received(
        used, tenant, stored.key, lambda session: once.answer(session, body, File, partial(create, session))
    )
    if made.id != file_id:  # sent again
        await used.units.other(tenant, lambda: used.store.delete(stored.key))
    return made


def _receive_file(used: Services, key: str, request: Request) -> StoredForm:
    form = store_form(
        request.headers.get("content-type"),
        body_chunks(request),
        store=used.store,
        key=key,
        field="file",
        max_bytes=used.settings.max_file_bytes,
        others={"purpose", *DatasetOptions.model_fields},
    )
    try:
        _check(form)
    except Exception:
        used.store.delete(key)
        raise
    return form


def _check(form: StoredForm) -> None:
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise InvalidInputError("missing_field", "The form field 'purpose' is required.", param="purpose")
    if purpose not in {service.DATASETS, images.PURPOSE}:
        message = f"The purpose must be {service.DATASETS!r} or {images.PURPOSE!r}, not {purpose[:64]!r}."
        raise InvalidInputError("invalid_value", message, param="purpose")
    try:
        _FILENAME.validate_python(form.filename)
    except ValidationError:
        message = "The file must have a name of at most 255 characters, without control characters."
        raise InvalidInputError("invalid_value", message, param="file") from None
    if form.file.bytes == 0:
        raise InvalidInputError("empty_file", f"The file {form.filename!r} is empty.", param="file")
    _options(form)


def _options(form: StoredForm) -> DatasetOptions:
    """Return what the form says of the data set; its values are text."""
    given = {name: text for name, text in form.fields.items() if name in DatasetOptions.model_fields}
    for name, text in given.items():
        if DatasetOptions.model_fields[name].annotation is float and not _NUMBER.fullmatch(text):
            raise InvalidInputError("invalid_value", f"{name}: this is no number, written in digits.", param=name)
    try:
        return DatasetOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        param = str(first["loc"][0])
        raise InvalidInputError("invalid_value", f"{param}: {first['msg']}.", param=param) from None


@router.get("")
def list_files(
    tenant: Tenant,
    session: ReadSession,
    *,
    purpose: Annotated[
        str | None, Query(max_length=64, description="`fine-tune`, `vision` or `fine-tune-results`.")
    ] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Items on a page, at most.")] = 1000,
    order: Order = "desc",
) -> Page[File]:
    """Data sets, images and result files, newest first."""
    ascending = order == "asc"
    rows = service.page(session, tenant, purpose=purpose, after=after, limit=limit + 1, ascending=ascending)
    return page_of(rows, limit, lambda file: file)


@router.get("/{file_id}")
def retrieve_file(file_id: str, tenant: Tenant, session: ReadSession) -> File:
    """One data set, image or result file."""
    found = service.find(session, tenant, file_id)
    if isinstance(found, VisionFile):
        return file_of_image(found)
    return file_of_dataset(found) if isinstance(found, Dataset) else file_of_result(found)


@router.delete("/{file_id}")
def delete_file(
    file_id: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
) -> Deleted:
    """Delete a file; a data set that a job still needs is kept (409)."""
    background.add_task(delete_objects, used.store, service.delete(session, tenant, file_id))
    return Deleted(id=file_id, object="file")


@router.get("/{file_id}/content", response_class=Response)
def retrieve_file_content(
    file_id: str, tenant: Tenant, used: ServicesDep, session: ReadSession, *, redirect: Redirect = True
) -> Response:
    """The bytes: of a data set here, of a result file behind a link, which a browser can open without a key."""
    found = service.find(session, tenant, file_id)
    if isinstance(found, Dataset):
        if not redirect:
            message = f"The file {file_id} is a data set: its bytes come here, with the key, and by no link."
            raise InvalidInputError("no_link", message, param="redirect", pointer=None)
        if not found.parts:
            raise NotYetError("dataset_importing", f"The file {file_id} is still being imported.", retry_after_s=5)
        headers = {"content-disposition": disposition(found.filename), "content-length": str(found.bytes)}
        keys = [part["key"] for part in found.parts]
        look_for(used.store, keys, f"the data set {found.id}")
        body = _joined(used.store, keys)
        return StreamingResponse(body, headers=headers, media_type="application/octet-stream")
    if isinstance(found, VisionFile):
        return answers.answer(used, found.stored, f"the file {found.id}", redirect=redirect)
    job = session.get_one(Job, found.subject_id)
    linked = found.stored.owned(job.suffix or job.model, job.id)
    return answers.answer(used, linked, f"the file {found.id} of job {job.id}", redirect=redirect)


def _joined(store: ObjectStore, keys: list[str]) -> Iterator[bytes]:
    for key in keys:
        yield from store.read(key)
