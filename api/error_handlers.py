"""Every error as RFC 9457 problem+json that also carries OpenAI's `error` member."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api import errors
from api.db import is_busy, is_full
from api.hints import meant
from api.storage import StoreError
from api.strict import RepeatedFieldError
from api.verbs import allowed_methods
from difftune_core.hooks import TaskError

_STATUS: dict[type[errors.ServiceError], HTTPStatus] = {
    errors.MalformedError: HTTPStatus.BAD_REQUEST,
    errors.InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.GoneError: HTTPStatus.GONE,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QuotaError: HTTPStatus.FORBIDDEN,
    errors.TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.CONFLICT: {"x-should-retry": "false"},  # OpenAI's clients would send a 409 again
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "5"},
}
_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field", "union_tag_invalid": "unknown_method"}
_HTTP_CODES = {  # phrases of a status differ between Python versions
    HTTPStatus.BAD_REQUEST: "malformed_body",
    HTTPStatus.NOT_FOUND: "route_not_found",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_MAX_FAULTS = 20
_MAX_DETAIL = 500  # characters; a message may quote what was sent
log = structlog.get_logger(__name__)


def install(app: FastAPI) -> None:
    """Install all handlers but that of unforeseen errors, which `api.middleware` answers with `unforeseen`."""
    app.add_exception_handler(errors.ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(TaskError, _on_config_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(StoreError, _on_store_error)
    app.add_exception_handler(OSError, _on_system_error)
    for kind in (OperationalError, InternalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _on_database_error)
    app.add_exception_handler(DataError, _on_data_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


def answer(request: Request, status: HTTPStatus, error: errors.ServiceError) -> JSONResponse:
    """The one shape of errors, as a response."""
    body = problem(status, error, request_id=getattr(request.state, "request_id", None), path=request.url.path)
    return JSONResponse(body, status, headers=_headers(status, error), media_type="application/problem+json")


def problem(status: HTTPStatus, error: errors.ServiceError, *, request_id: str | None, path: str) -> dict[str, Any]:
    """The one shape of errors."""
    body: dict[str, Any] = {
        "type": f"urn:difftune:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": int(status),
        "detail": error.message,
        "instance": path,
        "code": error.code,
        "request_id": request_id,
        **error.extra,
    }
    faults = error.errors
    if faults is None and error.pointer:
        faults = [{"pointer": error.pointer, "code": error.code, "detail": error.message}]
    if faults:
        body["errors"] = faults
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    body["error"] = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return body


def _headers(status: HTTPStatus, error: errors.ServiceError) -> dict[str, str] | None:
    if error.retry_after_s is not None:
        return {"retry-after": str(error.retry_after_s)}
    return None if isinstance(error, errors.NotYetError) else _HEADERS.get(status)


def unforeseen(request: Request, *, stopping: bool = False) -> JSONResponse:
    """Tell what a user may know of an error that nobody foresaw; the log has the rest under the request id. `stopping`:
    the process ends, and the request was cut off.
    """
    if stopping:
        message = "The service is being stopped. Send the request again in a moment."
        return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, errors.UnavailableError("shutting_down", message))
    error = errors.ServiceError(
        "internal_error", "Something went wrong on our side. The request id finds it in the log."
    )
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, error)


def status_of(error: errors.ServiceError) -> HTTPStatus:
    """HTTP's status for an error of the services."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


async def _on_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.ServiceError)
    return answer(request, status_of(error), error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(allowed_methods(request))
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    code = _HTTP_CODES.get(status, status.phrase.lower().replace(" ", "_"))
    detail = error.detail if status != HTTPStatus.NOT_FOUND else f"There is no route {request.url.path}."
    response = answer(request, status, errors.ServiceError(code, detail))
    response.headers.update(headers)
    return response


async def _on_store_error(request: Request, error: Exception) -> JSONResponse:
    log.error("store_error", error=str(error))
    message = "The object store does not answer. Try again later."
    return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, errors.UnavailableError("store_unavailable", message))


async def _on_system_error(request: Request, error: Exception) -> JSONResponse:
    """A folder as store has no service in between that would tell it in words of its own."""
    assert isinstance(error, OSError)
    if error.errno not in NO_ROOM:
        raise error
    return _full(request, error)


def _full(request: Request, error: Exception) -> JSONResponse:
    log.error("storage_full", error=str(error))
    message = "The service has no room left to store this. Delete what is not needed any more, or tell its operator."
    return answer(request, HTTPStatus.INSUFFICIENT_STORAGE, errors.UnavailableError("storage_full", message))


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if is_busy(error):
        log.warning("database_busy", error=str(error))
        message = "The service has too much to do at the moment. Try again in a second."
        busy = errors.UnavailableError("busy", message, retry_after_s=1)
        return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, busy)
    if is_full(error):
        return _full(request, error)
    log.error("database_error", error=str(error))
    message = "The database does not answer. Try again later."
    return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, errors.UnavailableError("database_unavailable", message))


async def _on_data_error(request: Request, _: Exception) -> JSONResponse:
    """PostgreSQL takes no NUL characters in texts and no numbers beyond a column's range; SQLite finds nothing."""
    return answer(request, HTTPStatus.BAD_REQUEST, errors.MalformedError("invalid_value", "A value cannot be stored."))


async def _on_disconnect(request: Request, _: Exception) -> JSONResponse:
    return answer(request, HTTPStatus.BAD_REQUEST, errors.MalformedError("disconnected", "The body was cut off."))


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # what FastAPI leaves of a body that is not announced as JSON
        message = "The body must be JSON, sent with Content-Type: application/json."
        status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        return answer(request, status, errors.MalformedError("unsupported_media_type", message))
    found = error.errors()
    if isinstance(error.__cause__, RepeatedFieldError):
        param = error.__cause__.field
        message = f"The body has the field {param[:_MAX_DETAIL]!r} twice."
        return answer(request, HTTPStatus.BAD_REQUEST, errors.MalformedError("repeated_field", message, param=param))
    if any(fault["type"] == "json_invalid" for fault in found):
        message = f"The body is no JSON: {found[0].get('ctx', {}).get('error', 'cannot be parsed')}."
        return answer(request, HTTPStatus.BAD_REQUEST, errors.MalformedError("malformed_json", message))
    faults = _deepest([_fault(fault, error.body, _body_of(request)) for fault in found[:_MAX_FAULTS]])
    first = faults[0]
    message = "; ".join(f"{fault['param'] or 'body'}: {fault['detail']}" for fault in faults[:3])
    listed = [{name: value for name, value in fault.items() if name != "param"} for fault in faults]
    summary = errors.ServiceError(first["code"], message, param=first["param"], errors=listed)
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, summary)


async def _on_config_error(request: Request, error: Exception) -> JSONResponse:
    """Fields of a config that are right one by one and do not go together: `difftune_core.config.resolve` says so."""
    assert isinstance(error, TaskError)
    refused = errors.InvalidInputError(error.code, f"{error}.", param=error.param)
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, refused)


def _body_of(request: Request) -> Any:
    """The type of the body that the request's route takes."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return field.field_info.annotation if field is not None else None


def _fault(fault: dict[str, Any], body: Any, model: Any) -> dict[str, Any]:
    where, *location = fault["loc"]
    code = _CODES.get(fault["type"], fault["type"] if fault["type"].startswith("legacy") else "invalid_value")
    common = {"code": code, "detail": fault["msg"][:_MAX_DETAIL]}
    if where != "body":
        return {"parameter": ".".join(map(str, location)), "in": where, "param": ".".join(map(str, location)), **common}
    path = _in_body(location, body, is_missing=fault["type"] == "missing")
    if code == "unknown_field" and (hint := meant(model, path)):
        common["detail"] += f". {hint}"
    pointer = "#" + "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    return {"pointer": pointer, "param": ".".join(map(str, path)) or None, **common}


def _deepest(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop faults of fields that hold a field at fault: of a union, members that were not meant complain too."""
    pointers = [fault.get("pointer", "") for fault in faults]
    return [fault for fault in faults if not any(p.startswith(f"{fault.get('pointer')}/") for p in pointers)]


def _in_body(location: list[Any], body: Any, *, is_missing: bool) -> list[Any]:
    """The path without what pydantic adds for members of unions: those are not in the body."""
    path: list[Any] = []
    here = body
    for number, step in enumerate(location):
        inside = (
            step in here
            if isinstance(here, dict)
            else isinstance(step, int) and isinstance(here, list) and step < len(here)
        )
        if inside:
            here = here[step]
            path.append(step)
        elif is_missing and number == len(location) - 1:
            path.append(step)
    return path
