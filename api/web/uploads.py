"""An upload in parts, as a script of the data sets' page sends it: the API's own answers, for a session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.web.routing import Asking, Page

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/uploads")
_SENT = (b"content-type", b"content-length")
_Token = Annotated[str, Query(max_length=128)]


@router.post("")
async def begin_upload(api: Asking, token: _Token = "") -> Response:
    """Begin an upload."""
    del token  # was looked at before, as in all of these
    return api.forwarded("POST", "uploads", headers=_SENT)


@router.get("/{upload_id}")
async def retrieve_upload(upload_id: str, api: Asking) -> Response:
    """How an upload stands, for who goes on with it."""
    return api.forwarded("GET", "uploads", upload_id)


@router.post("/{upload_id}/parts")
async def send_part(upload_id: str, api: Asking, token: _Token = "") -> Response:
    """Send a part."""
    del token
    return api.forwarded("POST", "uploads", upload_id, "parts", headers=_SENT)


@router.post("/{upload_id}/parts/presign")
async def link_part(upload_id: str, api: Asking, token: _Token = "") -> Response:
    """Ask where a part may be sent straight to the store."""
    del token
    return api.forwarded("POST", "uploads", upload_id, "parts", "presign", headers=_SENT)


@router.post("/{upload_id}/parts/{part_id}/presign")
async def link_part_again(upload_id: str, part_id: str, api: Asking, token: _Token = "") -> Response:
    """Ask so once more for a part that has not arrived."""
    del token
    return api.forwarded("POST", "uploads", upload_id, "parts", part_id, "presign", headers=_SENT)


@router.post("/{upload_id}/complete")
async def complete_upload(upload_id: str, api: Asking, token: _Token = "") -> Response:
    """Make a data set of the parts."""
    del token
    return api.forwarded("POST", "uploads", upload_id, "complete", headers=_SENT)
