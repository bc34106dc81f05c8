from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from api.deps import ServicesDep, principal_of_key
from api.errors import UnauthenticatedError
from api.web.rendering import page, to
from api.web.routing import OpenForm, OpenPage, Page
from api.web.sessions import COOKIE
from api.web.signing import signer

router = APIRouter(route_class=OpenPage, include_in_schema=False)
_of_session = APIRouter(route_class=Page, include_in_schema=False)
_LOCAL = re.compile(r"[A-Za-z0-9_][\w./-]*(\?[\w.=&%+-]*)?", re.ASCII)
_MAX_NEXT = 500


@router.get("/login")
async def login_page(request: Request, next: str = "") -> Response:  # noqa: A002  what such parameters are called
    """Ask for the key."""
    return page(request, "login.html.j2", next=_local(next))


@router.post("/login")
async def log_in(request: Request, used: ServicesDep, form: OpenForm) -> Response:
    """Open a session with a key, whose text is not kept."""
    wanted = _local(form.get("next", ""))
    try:
        principal = await principal_of_key(used, form.get("key", ""))
    except UnauthenticatedError as error:
        return page(request, "login.html.j2", status=401, next=wanted, error=error.message)
    answer = to(request, wanted)
    signs = signer(request)
    answer.set_cookie(
        COOKIE,
        signs.opened(principal.key_id),
        max_age=int(signs.ttl_s),
        httponly=True,
        samesite="lax",
        secure=_is_secure(request),
    )
    return answer


@_of_session.post("/logout")
async def log_out(request: Request) -> Response:
    """Forget the session in this browser."""
    answer = to(request, "login")
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=_is_secure(request))
    return answer


router.include_router(_of_session)


def _is_secure(request: Request) -> bool:
    """Return whether clients reach us by https; behind a proxy the settings know."""
    return "https" in {request.url.scheme, request.app.state.services.settings.base_url.partition(":")[0]}


def _local(wanted: str) -> str:
    """The path of a page of ours that may follow a login; nothing that leads elsewhere."""
    wanted = wanted[:_MAX_NEXT]
    return wanted if _LOCAL.fullmatch(wanted) and ".." not in wanted and "//" not in wanted else ""
