"""Links to stored files as clients get them: one way for checkpoints, results of jobs and reports of every kind.

A link needs no key and expires, so that a browser can open it. Pages are shown by it, everything else is downloaded.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import JSONResponse, RedirectResponse

from api.deps import Services
from api.objects.lost import link_to
from api.schemas import Out
from api.storage import StoredFile

Redirect = Annotated[
    bool, Query(description="`false`: the link as JSON instead of a redirect, for a browser that sends no key.")
]
_SHOWN = "text/html"


class DownloadLink(Out):
    """Where the bytes are, without a key, for a while."""

    url: str
    """A page is shown by it; everything else is saved under `filename`."""
    expires_at: int
    filename: str
    bytes: int
    sha256: str
    note: str | None = None
    """What to know to use it: of `format=original`, how the original code is told what the weights do not tell."""


def answer(used: Services, found: StoredFile, owner: str, *, redirect: bool, note: str | None = None) -> Response:
    """A redirect to the object's link, or the link as JSON; `owner` says in messages whose object it is.

    `note` is what whoever takes it must know.

    Raises:
        GoneError: `object_missing`, the store has lost it.
    """
    expires_s = used.settings.link_ttl_s
    shown = {"filename": found.filename, "content_type": found.content_type, "inline": found.content_type == _SHOWN}
    url = link_to(used.store, found.key, owner, expires_s=expires_s, **shown)
    if redirect:
        return RedirectResponse(url, status_code=302)
    link = DownloadLink(
        url=url,
        expires_at=int(time.time() + expires_s),
        filename=found.filename,
        bytes=found.bytes,
        sha256=found.sha256,
        note=note,
    )
    return JSONResponse(link.model_dump())
