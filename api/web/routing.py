"""Routes of pages: a session is asked for first, a form must come from a page of it, failures are told as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError

from api.deps import principal_of_session
from api.error_handlers import status_of
from api.errors import ForbiddenError, ServiceError, UnauthenticatedError
from api.middleware import takes_much
from api.strict import StrictRoute
from api.web.backend import Backend, RefusedError
from api.web.rendering import page, root_of, to
from api.web.sessions import COOKIE, WebSession
from api.web.signing import signer

_FORM = "application/x-www-form-urlencoded"
_FOREIGN = (
    "This form was sent from a page of another site, or its login has ended. Go back, reload the page, try again."
)


class OpenPage(StrictRoute):
    """A page that needs no session."""

    takes_whole = False  # a page may pass its body on to the API, and then it must still be there

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors as pages."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                await self.admit(request)
                return await handle(request)
            except _LoginNeededError:
                return login_needed(request)
            except RefusedError as error:
                return _told(request, error.status, str(error))
            except RequestValidationError:
                return _told(request, 422, "The address of this page has a value that cannot be read.")
            except ServiceError as error:
                return _told(request, status_of(error), error.message)

        return shown

    async def admit(self, request: Request) -> None:
        """Refuse what comes from a page of another site."""
        if request.method == "POST":
            refuse_foreign(request)


class Page(OpenPage):
    """A page of a session."""

    async def admit(self, request: Request) -> None:
        """Find the session; a form carries its token."""
        await super().admit(request)
        session = signer(request).read(request.cookies.get(COOKIE, ""))
        if session is None:
            raise _LoginNeededError
        try:
            request.state.principal = await principal_of_session(request.app.state.services, session.key_id)
        except UnauthenticatedError:
            raise _LoginNeededError from None
        request.state.web_session = session
        if request.method == "POST" and not signer(request).is_form_token(session, await _token(request)):
            raise ForbiddenError("form_expired", _FOREIGN)


class _LoginNeededError(Exception):
    pass


def refuse_foreign(request: Request) -> None:
    """Refuse a form whose browser says that another site sent it.

    Raises:
        ForbiddenError: so it says.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_foreign = site not in {None, "same-origin", "none"}
    if site is None and origin is not None:
        is_foreign = urlsplit(origin).netloc != request.headers.get("host")
    if is_foreign:
        raise ForbiddenError("foreign_form", _FOREIGN)


async def _token(request: Request) -> str:
    """The token of a form. An upload has it in its address: its body, which may be large, is not read here."""
    is_form = request.headers.get("content-type", "").partition(";")[0].strip() == _FORM
    if is_form and not takes_much(request.url.path):
        request.state.form = found = await request.form()  # the endpoint's request is another object
        given = found.get("token")
    else:
        given = request.query_params.get("token")
    return given if isinstance(given, str) else ""


def login_needed(request: Request) -> Response:
    """The login page, which leads back to the page that was asked for."""
    if request.method == "POST":
        return _told(request, 401, "Your login has ended. Log in again, and send the form once more.")
    wanted = request.url.path.lstrip("/")
    if request.url.query:
        wanted += f"?{request.url.query}"
    return to(request, f"login?next={quote(wanted, safe='')}" if wanted else "login")


def _told(request: Request, status: int, message: str) -> Response:
    return page(request, "error.html.j2", status=status, message=message, back=root_of(request))


async def _backend(request: Request) -> Backend:
    session: WebSession = request.state.web_session
    return Backend(request, session)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, without its token; of a field that is there twice the last counts."""
    found = getattr(request.state, "form", {})
    return {name: value.strip() for name, value in found.items() if isinstance(value, str) and name != "token"}


async def _opened(request: Request) -> dict[str, str]:
    request.state.form = await request.form()
    return await form_of(request)


Asking = Annotated[Backend, Depends(_backend)]
Form = Annotated[dict[str, str], Depends(form_of)]
OpenForm = Annotated[dict[str, str], Depends(_opened)]
