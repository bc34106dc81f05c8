"""Data sets: upload by a form, and what validation found of one."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Query, Request, Response

from api.datasets.previews import Role
from api.deps import Services, ServicesDep
from api.storage import LocalStore
from api.web import dataset_items
from api.web.backend import Backend, RefusedError
from api.web.rendering import page, to
from api.web.routing import Asking, Form, Page

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/datasets")
_ON_PAGE = 25
_PART_BYTES = 8 << 20  # what a lost connection costs at most
_KEPT = {"cache-control": "private, max-age=86400, immutable"}
_After = Annotated[str | None, Query(max_length=64)]
_UPLOAD_HEADERS = (b"content-type", b"content-length")


@router.get("")
async def list_datasets(request: Request, api: Asking, after: _After = None) -> Response:
    """Data sets, newest first, and the form for another one."""
    return await _listed(request, api, after=after)


@router.post("/upload")
async def upload_dataset(request: Request, api: Asking, token: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Take a file as the API does; its body is not read here."""
    del token  # was looked at before
    try:
        made = await api.send("files", headers=_UPLOAD_HEADERS)
    except RefusedError as refused:
        return await _listed(request, api, status=refused.status, error=str(refused))
    return to(request, f"datasets/{made['id']}")


@router.get("/{dataset_id}")
async def retrieve_dataset(
    dataset_id: str,
    request: Request,
    api: Asking,
    place: Annotated[int, Query(ge=0, le=2**31)] = 0,
    after: _After = None,
) -> Response:
    """One data set with what was found in it, and the images from a `place` on, or `after` one of them."""
    return await _shown(request, api, dataset_id, place=place, after=after)


@router.get("/{dataset_id}/previews/{place}")
async def show_preview(
    dataset_id: str,
    place: Annotated[int, Path(ge=0, le=2**31)],
    request: Request,
    used: ServicesDep,
    role: Role = "image",
) -> Response:
    """A small picture of one image, or of its control image; what a data set has never changes."""
    content, kind = await dataset_items.preview(used, request.state.principal.tenant_id, dataset_id, place, role)
    return Response(content, media_type=kind, headers=_KEPT)


@router.post("/{dataset_id}/delete")
async def delete_dataset(dataset_id: str, request: Request, api: Asking, form: Form) -> Response:
    """Delete a data set, once its owner has said so twice."""
    if form.get("sure") != "yes":
        message = "Tick the box beside the button first."
        return await _shown(request, api, dataset_id, status=422, error=message)
    try:
        await api.delete("datasets", dataset_id)
    except RefusedError as refused:
        return await _shown(request, api, dataset_id, status=refused.status, error=str(refused))
    return to(request, "datasets")


async def _listed(
    request: Request, api: Backend, *, after: str | None = None, status: int = 200, error: str | None = None
) -> Response:
    listed = await api.get("datasets", limit=_ON_PAGE, after=after)
    used: Services = request.app.state.services
    settings, straight_to = used.settings, _straight_to(used)
    return page(
        request,
        "datasets.html.j2",
        status=status,
        sends_to=straight_to,
        straight_to=straight_to,
        listed=listed,
        error=error,
        most_bytes=settings.max_file_bytes,
        part_bytes=min(_PART_BYTES, settings.max_part_bytes),
    )


def _straight_to(used: Services) -> str:
    """The origin of the store where it is not ours: parts go there by links. Else nothing."""
    if isinstance(used.store, LocalStore):
        return ""
    link = urlsplit(used.store.url_put("uploads/origin", num_bytes=1, expires_s=1))
    return f"{link.scheme}://{link.netloc}"


async def _shown(
    request: Request,
    api: Backend,
    dataset_id: str,
    *,
    place: int = 0,
    after: str | None = None,
    status: int = 200,
    error: str | None = None,
) -> Response:
    dataset = await api.get("datasets", dataset_id)
    is_settled = dataset["status"] != "validating"
    report: dict[str, Any] = await api.get("datasets", dataset_id, "report") if is_settled else {}
    items, trouble = dataset_items.Items(), None
    if dataset["status"] == "ready":
        try:
            items = await dataset_items.items_of(request, api, dataset_id, place=place, after=after)
        except RefusedError as refused:  # the store has lost it, or the address was changed
            trouble = str(refused)
    return page(
        request,
        "dataset.html.j2",
        status=status,
        error=error or trouble,
        dataset=dataset,
        is_settled=is_settled,
        report=report,
        items=items,
    )
