"""Signed links of the local store: the signature is the permission, no key is asked for."""

from __future__ import annotations

import re

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse

from api.deps import Services, ServicesDep, body_chunks, in_receiving_thread
from api.errors import ForbiddenError, InvalidInputError, MalformedError, TooLargeError, not_found
from api.multipart import limited
from api.routing import UnitRoute
from api.storage import LocalStore
from api.storage.base import disposition
from api.storage.links import PARAMETERS, REQUIRED, BadLinkError, Link, verified

router = APIRouter(prefix="/v1/objects", tags=["objects"], route_class=UnitRoute)
_RANGE = re.compile(r"\s*(?P<first>\d{0,18})-(?P<last>\d{0,18})\s*", re.ASCII)
_SIGNED = {
    "parameters": [
        {"name": name, "in": "query", "required": name in REQUIRED, "schema": {"type": "string"}} for name in PARAMETERS
    ]
}
_PRIVATE = {"cache-control": "private, no-store", "referrer-policy": "no-referrer"}  # the address is the permission
_INERT = "sandbox; default-src 'none'"
_SHOWN = f"{_INERT}; img-src data:; style-src 'unsafe-inline'"  # a page of ours needs no more


@router.get("/{key:path}", response_class=Response, openapi_extra=_SIGNED)
def download_object(key: str, used: ServicesDep, request: Request) -> Response:
    """The object behind a signed link, whole or one range of it: shown where the link says so, else as a download.

    What is shown can run no script and load nothing.
    """
    store, link = _allowed(used, key, request)
    path = store.root / key
    if not path.is_file():
        raise not_found("object", key)
    found = path.stat()
    _check_range(request, found.st_size)
    headers = {**_PRIVATE, "content-security-policy": _SHOWN if link.inline else _INERT}
    headers["content-disposition"] = disposition(link.filename, inline=link.inline)
    return FileResponse(path, media_type=link.content_type, headers=headers, stat_result=found)


@router.put("/{key:path}", response_class=Response, openapi_extra=_SIGNED)
async def upload_object(key: str, used: ServicesDep, request: Request) -> Response:
    """Store an object by a signed link: exactly the bytes that the link allows. What is there already stays."""
    store, link = _allowed(used, key, request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > link.num_bytes:
        message = f"The link is for {link.num_bytes} bytes, {announced} are announced."
        raise TooLargeError("too_large", message, max_bytes=link.num_bytes)
    etag = await in_receiving_thread(used, _owner(key), _receive, store, link, request)
    return Response(status_code=200, headers={"etag": f'"{etag}"'})


def _owner(key: str) -> str:
    """Return who the places are counted for: a link names no tenant, so that each upload is one of its own."""
    return key.rpartition("/")[0]


def _receive(store: LocalStore, link: Link, request: Request) -> str | None:
    chunks = limited(body_chunks(request), link.num_bytes, what="The object")
    try:
        found = store.stat(link.key)
    except FileNotFoundError:
        try:
            stored = store.put_stream(link.key, chunks)
        except FileExistsError:  # sent twice at once
            return store.stat(link.key).etag
    else:  # sent again: a data set that is made of it must not change
        for _ in chunks:
            pass
        return found.etag
    if stored.bytes != link.num_bytes:
        store.delete(link.key)
        raise InvalidInputError("wrong_size", f"The link is for {link.num_bytes} bytes, {stored.bytes} came.")
    return stored.etag


def _check_range(request: Request, size: int) -> None:
    """Refuse what the response would answer without our shape of errors, or at a cost (RFC 9110, 14.1 and 14.2)."""
    unit, _, asked = request.headers.get("range", "").partition("=")
    if unit.strip().lower() != "bytes":  # a unit that nobody knows must be ignored
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        return
    if "," in asked:
        raise MalformedError("too_many_ranges", "Ask for one range at a time.", param="range")
    matched = _RANGE.fullmatch(asked)
    first, last = (matched["first"], matched["last"]) if matched else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        message = "A range is bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH."
        raise MalformedError("malformed_range", message, param="range")
    if (int(first) if first else max(0, size - int(last))) >= size:
        raise HTTPException(416, f"The object has {size} bytes.", headers={"content-range": f"bytes */{size}"})


def _allowed(used: Services, key: str, request: Request) -> tuple[LocalStore, Link]:
    if not isinstance(used.store, LocalStore):
        raise not_found("object", key)
    try:
        link = verified(used.store.secret, method=request.method, key=key, query=request.query_params)
    except BadLinkError as error:
        raise ForbiddenError(error.code, f"This link cannot be used: {error}.") from None
    return used.store, link
