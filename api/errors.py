"""What the service refuses, without HTTP: one tree of errors; `api.error_handlers` gives each its status.

ServiceError
├── MalformedError        cannot be read at all
├── InvalidInputError     can be read, but a value cannot be accepted
├── UnauthenticatedError  no key, or none of ours
├── ForbiddenError        a link that was changed
├── NotFoundError         no such thing for this tenant
├── ConflictError         not in this state
│   └── NotYetError       not in this state, which passes
├── GoneError             it was there, its time is over
├── TooLargeError         more bytes than allowed
├── QuotaError            more bytes than the tenant may keep
├── TooManyRequestsError  more at once than the tenant can have
└── UnavailableError      a part of the service does not answer
"""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """An error with a `code` for programs and a message for people; `param` and `pointer` name the field at fault."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        pointer: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after_s: int | None = None,
        **extra: Any,
    ) -> None:
        """`param` is dotted (`method.type`), `pointer` a JSON pointer; made of `param` for a body's field.

        `errors` lists several faults; `retry_after_s`: time cures it; `extra` becomes members of the answer.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.pointer = pointer
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.extra = extra


class MalformedError(ServiceError):
    """The request cannot be read."""


class InvalidInputError(ServiceError):
    """A field of the body has a value that cannot be accepted."""

    def __init__(self, code: str, message: str, *, param: str | None = None, **extra: Any) -> None:
        """Make a `ServiceError` with the pointer that belongs to `param`."""
        if param:
            extra.setdefault("pointer", "#/" + param.replace(".", "/"))
        super().__init__(code, message, param=param, **extra)


class UnauthenticatedError(ServiceError):
    """The request has no key, or one that is not known."""


class ForbiddenError(ServiceError):
    """Known, but not allowed."""


class NotFoundError(ServiceError):
    """The thing is not there, or it is another tenant's."""


class ConflictError(ServiceError):
    """The present state does not allow the request; trying again does not help."""


class NotYetError(ConflictError):
    """The present state does not allow the request, but passes by itself: trying again may help."""


class GoneError(ServiceError):
    """The thing was there, and its time is over."""


class TooLargeError(ServiceError):
    """The request has more bytes than allowed."""


class QuotaError(ServiceError):
    """The tenant has no room left."""


class TooManyRequestsError(ServiceError):
    """The tenant's other requests have to be done first."""


class UnavailableError(ServiceError):
    """A part of the service does not answer; trying again may help."""


def not_found(kind: str, id_: str) -> NotFoundError:
    """An error in the same words whether the thing never was or is another tenant's."""
    return NotFoundError(f"{kind}_not_found", f"There is no {kind.replace('_', ' ')} {id_!r}.")
