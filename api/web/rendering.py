"""Pages made of templates. All text is escaped; nothing is loaded from others, and no script or style stands in a page.

Addresses in pages are relative, so that they hold behind a proxy that puts a path before ours.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from api import __version__
from api.deps import Services
from api.storage import LocalStore
from api.web import words
from api.web.sessions import WebSession
from api.web.signing import signer

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("api.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    environment.globals["version"] = __version__
    return environment


def page(request: Request, template: str, *, status: int = 200, sends_to: str = "", **shown: Any) -> HTMLResponse:
    """A page of a template, which knows the session, the address of the root and what is `shown`.

    Args:
        request: which is answered.
        template: its file.
        status: HTTP's.
        sends_to: an origin besides ours that the page's scripts may send to.
        shown: what the template is filled with.
    """
    session: WebSession | None = getattr(request.state, "web_session", None)
    common = {
        "root": root_of(request),
        "path": request.url.path,
        "section": request.url.path.split("/")[1],
        "session": session,
        "token": signer(request).form_token(session) if session else "",
        "error": None,
    }
    text = _templates().get_template(template).render(common | shown)
    return HTMLResponse(text, status, headers={**_HEADERS, "content-security-policy": _policy(request, sends_to)})


def to(request: Request, path: str) -> Response:
    """A redirect, after a form, to another page's path, which begins without a slash."""
    return RedirectResponse(root_of(request) + path, status_code=303, headers={"cache-control": "no-store"})


def root_of(request: Request) -> str:
    """The way from the page's address to that of the overview."""
    return "../" * (request.url.path.count("/") - 1) or "./"


def _policy(request: Request, sends_to: str) -> str:
    has_images = hasattr(request.state, "web_session")
    images = f" {_origin_of_links(request.app.state.services)}" if has_images else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' data:{images}; connect-src 'self'{sends_to and f' {sends_to}'}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _origin_of_links(used: Services) -> str:
    """Return where links to images lead, as far as the settings say."""
    settings = used.settings
    of_store = settings.s3_public_url or settings.s3_endpoint_url or "https:"
    url = settings.base_url if isinstance(used.store, LocalStore) else str(of_store)
    return "/".join(url.split("/")[:3])
